{{- define "kube-ipvs.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The port of the metrics, which is what follows the last colon. */}}
{{- define "kube-ipvs.metricsPort" -}}
{{ regexFind "[0-9]+$" .Values.metrics.bindAddress }}
{{- end -}}

{{/* KubeProxyConfiguration: what values say, and .Values.config over it. */}}
{{- define "kube-ipvs.config" -}}
{{- $config := dict
  "apiVersion" "kubeproxy.config.k8s.io/v1alpha1"
  "kind" "KubeProxyConfiguration"
  "mode" "ipvs"
  "bindAddress" "0.0.0.0"
  "healthzBindAddress" "0.0.0.0:10256"
  "metricsBindAddress" .Values.metrics.bindAddress
  "clientConnection" (dict "kubeconfig" "/var/lib/kube-proxy/kubeconfig.conf")
  "ipvs" (dict "scheduler" .Values.scheduler "minSyncPeriod" "1s" "syncPeriod" "30s") -}}
{{- if .Values.podCIDRs -}}
{{- $_ := set $config "clusterCIDR" (join "," .Values.podCIDRs) -}}
{{- else if not (or .Values.config.clusterCIDR .Values.config.detectLocalMode) -}}
{{- fail "podCIDRs: name the networks of the pods (--set podCIDRs={10.244.0.0/16}), or choose another config.detectLocalMode" -}}
{{- end -}}
{{- toYaml (mergeOverwrite $config (deepCopy .Values.config)) -}}
{{- end -}}

{{/* The port of the health server, for the probes. */}}
{{- define "kube-ipvs.healthzPort" -}}
{{ regexFind "[0-9]+$" (.Values.config.healthzBindAddress | default "0.0.0.0:10256") }}
{{- end -}}

{{- define "kube-ipvs.args" -}}
- run
- --config=/var/lib/kube-proxy/config.conf
- --hostname-override=$(NODE_NAME)
{{- range $name, $value := .Values.flags }}
- {{ printf "--%s=%v" $name $value | quote }}
{{- end }}
{{- end -}}

{{- define "kube-ipvs.env" -}}
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- end -}}

{{- define "kube-ipvs.mounts" -}}
- name: config
  mountPath: /var/lib/kube-proxy
  readOnly: true
- name: run
  mountPath: /run/kube-ipvs
{{- end -}}
