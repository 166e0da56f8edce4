{{- define "cocoer.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "cocoer.labels" -}}
app.kubernetes.io/name: cocoer
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* What selects pods; component tells servers from balancers. */}}
{{- define "cocoer.selector" -}}
app.kubernetes.io/name: cocoer
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "cocoer.claim" -}}
{{ .Values.models.existingClaim | default (printf "%s-models" (include "cocoer.name" .)) }}
{{- end }}

{{/* The options of the build, as a JSON list. */}}
{{- define "cocoer.buildArguments" -}}
{{- if .Values.engines.arguments -}}
{{ .Values.engines.arguments | toJson }}
{{- else if gt (int .Values.gpu.count) 0 -}}
["--backend","tensorrt","--precision","fp16"]
{{- else -}}
["--backend","onnxruntime","--precision","fp32"]
{{- end -}}
{{- end }}

{{/* The directory of a build: another one for whatever makes other engines. */}}
{{- define "cocoer.build" -}}
{{- $gpu := dict "resource" .Values.gpu.resource "nodeSelector" .Values.gpu.nodeSelector -}}
{{- if eq (int .Values.gpu.count) 0 }}{{ $gpu = dict }}{{ end -}}
{{- list .Values.image.engines (include "cocoer.buildArguments" .) (toString .Values.engines.revision) $gpu | toJson | sha256sum | trunc 12 -}}
{{- end }}

{{- define "cocoer.repository" -}}
/engines/{{ if .Values.engines.enabled }}{{ include "cocoer.build" . }}/model_repository{{ else }}{{ .Values.models.path }}{{ end }}
{{- end }}

{{/* What a container may take; with GPUs where there are any. */}}
{{- define "cocoer.resources" -}}
{{- $limits := deepCopy (.resources.limits | default dict) -}}
{{- if gt (int .root.Values.gpu.count) 0 }}{{ $_ := set $limits .root.Values.gpu.resource (int .root.Values.gpu.count) }}{{ end -}}
requests: {{ .resources.requests | default dict | toJson }}
limits: {{ $limits | toJson }}
{{- end }}

{{- define "cocoer.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
# The claim's files are not given to the group one by one at each start.
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "cocoer.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Who may ask the service: clients, and the gateway. */}}
{{- define "cocoer.askers" -}}
- podSelector:
    matchLabels: {{- toYaml .Values.networkPolicy.clients | nindent 6 }}
{{- if .Values.web.enabled }}
- podSelector:
    matchLabels: {{- include "cocoer.selector" (dict "root" . "component" "web") | nindent 6 }}
{{- end }}
{{- end }}
