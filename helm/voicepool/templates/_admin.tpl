{{/* Name of the Secret with the tokens of the HTTP API. */}}
{{- define "voicepool.adminSecret" -}}
{{- .Values.admin.existingSecret | default (include "voicepool.name" (list . "admin")) -}}
{{- end -}}
