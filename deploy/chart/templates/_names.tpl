{{- define "kube-ipvs.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "kube-ipvs.configMap" -}}
{{ .Values.existingConfigMap | default .Release.Name }}
{{- end -}}

{{- define "kube-ipvs.labels" -}}
app.kubernetes.io/name: kube-ipvs
{{- end -}}

{{- define "kube-ipvs.args" -}}
- run
- --config=/var/lib/kube-proxy/config.conf
- --hostname-override=$(NODE_NAME)
{{- end -}}

{{- define "kube-ipvs.port" -}}
{{ regexReplaceAll "^.*:" . "" | int }}
{{- end -}}
