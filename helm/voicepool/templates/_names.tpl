{{/* Names, labels, images: what every object has. */}}

{{- define "voicepool.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Name of a part: (list $ "worker"). */}}
{{- define "voicepool.name" -}}
{{- printf "%s-%s" (include "voicepool.fullname" (index . 0)) (index . 1) -}}
{{- end -}}

{{/* What selects the pods of a part: (list $ "worker"). */}}
{{- define "voicepool.selector" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of a part's objects: (list $ "worker"). */}}
{{- define "voicepool.labels" -}}
{{- $root := index . 0 -}}
{{ include "voicepool.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: voicepool
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of a part's pods: without versions, so that a new chart alone replaces no pod. (list $ "worker"). */}}
{{- define "voicepool.podLabels" -}}
{{ include "voicepool.selector" . }}
app.kubernetes.io/part-of: voicepool
{{- with (index . 0).Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Name and labels of a part's object: (list $ "worker"). */}}
{{- define "voicepool.metadata" -}}
name: {{ include "voicepool.name" . }}
namespace: {{ (index . 0).Release.Namespace }}
labels:
  {{- include "voicepool.labels" . | nindent 2 }}
{{- end -}}

{{- define "voicepool.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}
