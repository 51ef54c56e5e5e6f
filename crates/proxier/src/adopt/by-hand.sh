hooks='SERVICES|POSTROUTING|FORWARD|NODE-PORT|PROXY-FIREWALL|IPVS-FILTER|IPVS-OUT-FILTER'
chains='SERVICES POSTROUTING NODE-PORT LOAD-BALANCER MARK-MASQ FORWARD PROXY-FIREWALL
        SOURCE-RANGES-FIREWALL IPVS-FILTER IPVS-OUT-FILTER'
for iptables in iptables-legacy ip6tables-legacy; do
  for table in nat filter; do
    rules=$($iptables -t $table -S | grep -E '^-A (PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING) ' |
      grep -E -- "-j KUBE-($hooks)\$" | sed 's/^-A/-D/')
    printf '%s\n' "*$table" "$rules" COMMIT | $iptables-restore --noflush
    for chain in $chains; do $iptables -t $table -F KUBE-$chain 2>/dev/null; done
    for chain in $chains; do $iptables -t $table -X KUBE-$chain 2>/dev/null; done
  done
done
ipset list -n | grep '^KUBE-' | xargs -rn1 ipset destroy
