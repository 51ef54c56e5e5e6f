//! A node as kube-proxy in ipvs mode programs it.

use std::net::Ipv4Addr;

use crate::{Small, run};

/// Things of others that look much like kube-proxy's.
pub const FOREIGN: &str = "
ipvsadm -A -t 192.0.2.10:30090 -s wlc
ipvsadm -a -t 192.0.2.10:30090 -r 192.0.2.20:80 -m
ipvsadm -A -t 10.96.200.1:443 -s rr
ipset create stranger hash:ip
iptables-nft -t nat -N MINE
iptables-nft -t nat -A MINE -m set --match-set stranger src -j RETURN
iptables-nft -t nat -A PREROUTING -m comment --comment 'not -j KUBE-SERVICES' -j MINE
iptables-nft -t filter -N KUBE-FIREWALL
iptables-nft -t filter -A INPUT -j KUBE-FIREWALL
ip6tables-nft -t mangle -N KUBE-KUBELET-CANARY
";

/// Sysctls, and the link, which stays down.
const GROUND: &str = "
for x in net.ipv4.vs.conntrack net.ipv4.vs.expire_nodest_conn \
         net.ipv4.vs.expire_quiescent_template net.ipv4.ip_forward; do
  echo 1 > /proc/sys/$(echo $x | tr . /)
done
ip link show kube-ipvs0 >/dev/null 2>&1 || ip link add kube-ipvs0 type dummy
";

/// `server FLAG FRONT REAL...`: a virtual server as it should be, made or changed.
const SERVER: &str = r#"
known=""
server() {
  known="$known $2"
  front="$1 $2"
  ipvsadm -A $front -s rr 2>/dev/null || ipvsadm -E $front -s rr
  shift 2
  for real in "$@"; do
    ipvsadm -a $front -r $real -m -w 1 2>/dev/null || ipvsadm -e $front -r $real -m -w 1
  done
}
vip() {
  ip address add $1 dev kube-ipvs0 2>/dev/null || ip address show dev kube-ipvs0 | grep -q " $1 "
}
"#;

/// The nine hooks and the chains over sets, for one program and the prefix of
/// its sets.
const CHAINS: &str = r#"
chains() {
  ipt=$1; six=$2; vip=$3; family=$4; any=$5
  set4() { ipset -exist create KUBE-$six$1 $2 $3; }
  set4 LOOP-BACK hash:ip,port,ip "family $family"
  set4 CLUSTER-IP hash:ip,port "family $family"
  set4 LOAD-BALANCER hash:ip,port "family $family"
  set4 IPVS-IPS hash:ip "family $family"
  set4 NODE-PORT-TCP bitmap:port "range 0-65535"
  ipset -exist create $(echo KUBE-${six}LOAD-BALANCER-SOURCE-CIDR | cut -c1-31) hash:ip,port,net family $family
  ipset -exist add KUBE-${six}CLUSTER-IP $vip,tcp:80
  ipset -exist add KUBE-${six}IPVS-IPS $vip
  ipset -exist add KUBE-${six}NODE-PORT-TCP 30080
  for endpoint in $any; do
    ipset -exist add KUBE-${six}LOOP-BACK $endpoint,tcp:8080,$endpoint
  done
  host=127.0.0.0/8; reject=icmp-port-unreachable
  if [ $family = inet6 ]; then host=::1/128; reject=icmp6-port-unreachable; fi
  $ipt-restore --noflush <<END
*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-LOAD-BALANCER - [0:0]
:KUBE-MARK-MASQ - [0:0]
-A KUBE-SERVICES -s $host -j RETURN
-A KUBE-SERVICES -m comment --comment "Kubernetes service lb portal" -m set --match-set KUBE-${six}LOAD-BALANCER dst,dst -j KUBE-LOAD-BALANCER
-A KUBE-SERVICES -m comment --comment "Kubernetes service cluster ip + port for masquerade purpose" -m set --match-set KUBE-${six}CLUSTER-IP src,dst -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
-A KUBE-SERVICES -m set --match-set KUBE-${six}CLUSTER-IP dst,dst -j ACCEPT
-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
-A KUBE-NODE-PORT -p tcp -m comment --comment "Kubernetes nodeport TCP port for masquerade purpose" -m set --match-set KUBE-${six}NODE-PORT-TCP dst -j KUBE-MARK-MASQ
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose" -m set --match-set KUBE-${six}LOOP-BACK dst,dst,src -j MASQUERADE
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
COMMIT
*filter
:KUBE-FORWARD - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SOURCE-RANGES-FIREWALL - [0:0]
:KUBE-IPVS-FILTER - [0:0]
:KUBE-IPVS-OUT-FILTER - [0:0]
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-PROXY-FIREWALL -m set --match-set KUBE-${six}LOAD-BALANCER dst,dst -j KUBE-SOURCE-RANGES-FIREWALL
-A KUBE-SOURCE-RANGES-FIREWALL -j DROP
-A KUBE-IPVS-FILTER -m set --match-set KUBE-${six}CLUSTER-IP dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-${six}IPVS-IPS dst -j REJECT --reject-with $reject
COMMIT
END
  hook() { $ipt -t $1 -C $2 -m comment --comment "$4" -j $3 2>/dev/null || $ipt -t $1 -I $2 -m comment --comment "$4" -j $3; }
  hook nat PREROUTING KUBE-SERVICES "kubernetes service portals"
  hook nat OUTPUT KUBE-SERVICES "kubernetes service portals"
  hook nat POSTROUTING KUBE-POSTROUTING "kubernetes postrouting rules"
  hook filter FORWARD KUBE-FORWARD "kubernetes forwarding rules"
  hook filter INPUT KUBE-NODE-PORT "kubernetes health check rules"
  hook filter INPUT KUBE-PROXY-FIREWALL "kube-proxy firewall rules"
  hook filter FORWARD KUBE-PROXY-FIREWALL "kube-proxy firewall rules"
  hook filter INPUT KUBE-IPVS-FILTER "kubernetes ipvs access filter"
  hook filter OUTPUT KUBE-IPVS-OUT-FILTER "kubernetes ipvs access filter"
}
"#;

/// It removes what it does not know, as kube-proxy does at the end of a sync. A
/// mark it takes for an address of zeros, and the kernel knows none such.
const FORGET: &str = r#"
ipvsadm -Sn | while read verb flag front rest; do
  [ "$verb" = -A ] && [ "$flag" != -f ] || continue
  case "$known " in
    *" $front "*) ;;
    *) ipvsadm -D $flag $front ;;
  esac
done
"#;

/// kube-proxy of a node that serves 10.96.0.10, fd00:96::10 and NodePort 30080
/// by two pods, on port 8080.
#[derive(Debug)]
pub struct KubeProxy {
    node: String,
    address: Ipv4Addr,
    script: String,
}

impl KubeProxy {
    /// That of this node, which has done nothing yet.
    pub fn of(small: &Small) -> Self {
        let [p1, p2] = &small.pods;
        let v4 = format!("{}:8080 {}:8080", p1.v4, p2.v4);
        let v6 = format!("[{}]:8080 [{}]:8080", p1.v6, p2.v6);
        let (node4, node6) = (small.node.v4(), small.node.v6());
        let script = format!(
            "{GROUND}{SERVER}{CHAINS}
             chains iptables-nft '' 10.96.0.10 inet '{} {}'
             chains ip6tables-nft 6- fd00:96::10 inet6 '{} {}'
             server -t 10.96.0.10:80 {v4}
             server -t [fd00:96::10]:80 {v6}
             server -t {node4}:30080 {v4}
             server -t [{node6}]:30080 {v6}
             vip 10.96.0.10/32
             vip fd00:96::10/128
             {FORGET}",
            p1.v4, p2.v4, p1.v6, p2.v6
        );
        Self {
            node: small.node.namespace.name().to_owned(),
            address: node4,
            script,
        }
    }

    fn sh(&self, script: &str) -> String {
        let arguments = ["netns", "exec", &self.node, "sh", "-ec", script];
        run("ip", arguments)
    }

    /// The same with chains of the old interface.
    pub fn legacy(self) -> Self {
        let script = self.script.replace("tables-nft", "tables-legacy");
        Self { script, ..self }
    }

    /// One sync.
    pub fn sync(&self) {
        self.sh(&self.script);
    }

    /// Its chains and sets, of all kinds.
    pub fn leftovers(&self) -> Vec<String> {
        let all = self.sh(
            "for x in iptables-nft ip6tables-nft iptables-legacy ip6tables-legacy; do $x-save; done
             ipset list -n",
        );
        let kubelets = ["KUBE-FIREWALL", "KUBE-KUBELET-CANARY"];
        all.lines()
            .filter(|line| line.contains("KUBE-"))
            .filter(|line| !kubelets.iter().any(|chain| line.contains(chain)))
            .filter(|line| !line.contains("not -j KUBE-SERVICES"))
            .map(str::to_owned)
            .collect()
    }

    /// What a release of kube-proxy left behind that was told to use the old
    /// interface, and Services that are gone, one with a NodePort from outside
    /// the usual range.
    pub fn leave_more(&self) {
        let old = "
             ipvsadm -A -t 10.96.0.99:80 -s rr
             ip address add 10.96.0.99/32 dev kube-ipvs0
             iptables-legacy -t nat -N KUBE-SERVICES
             iptables-legacy -t nat -A OUTPUT -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES
             iptables-legacy -t nat -N KUBE-MARK-MASQ
             iptables-legacy -t nat -A KUBE-SERVICES -s 192.0.2.9/32 -j KUBE-MARK-MASQ
             iptables-legacy -t mangle -N KUBE-PROXY-CANARY
             ip6tables-legacy -t filter -N KUBE-FORWARD
             ip6tables-legacy -t filter -A FORWARD -m comment --comment 'kubernetes forwarding rules' -j KUBE-FORWARD
             ip6tables-legacy -t filter -A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
             ipset add KUBE-NODE-PORT-TCP 8443";
        self.sh(&format!("{old}\nipvsadm -A -t {}:8443 -s rr", self.address));
    }
}
