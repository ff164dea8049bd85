{{/* What every pod and every container has: security, scheduling, environment. */}}

{{/* The restricted profile of Kubernetes' Pod Security Standards; the user is the image's. */}}
{{- define "voicepool.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "voicepool.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* The beginning of a pod's spec: (list $ "worker" <whether it talks to the API server>). */}}
{{- define "voicepool.pod" -}}
{{- $root := index . 0 -}}
serviceAccountName: {{ include "voicepool.name" . }}
automountServiceAccountToken: {{ index . 2 }}
enableServiceLinks: false
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{ include "voicepool.podSecurity" . }}
{{- end -}}

{{/* Where a part's pods run: (list $ "worker"). */}}
{{- define "voicepool.scheduling" -}}
{{- $values := index (index . 0).Values (index . 1) -}}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.topologySpread }}
topologySpreadConstraints:
  {{- /* Zones are never a must, since it may be that no node has the label. What is being replaced does not count. */}}
  {{- range $key, $unsatisfiable := dict "topology.kubernetes.io/zone" "ScheduleAnyway" "kubernetes.io/hostname" . }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: {{ $unsatisfiable }}
    labelSelector:
      matchLabels:
        {{- include "voicepool.selector" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end -}}

{{/* One variable: (list "NAME" "value"). */}}
{{- define "voicepool.variable" -}}
- name: {{ index . 0 }}
  value: {{ index . 1 | toString | quote }}
{{- end -}}

{{/* One variable out of a Secret: (list "NAME" "secret" "key"). */}}
{{- define "voicepool.secretVariable" -}}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ index . 1 }}
      key: {{ index . 2 }}
{{- end -}}

{{/* One variable out of the pod itself: (list "NAME" "status.podIP"). */}}
{{- define "voicepool.fieldVariable" -}}
- name: {{ index . 0 }}
  valueFrom:
    fieldRef:
      fieldPath: {{ index . 1 }}
{{- end -}}

{{/* Settings that the values give, the part's own before the pool's, and further variables: (list $ "worker"). Of the pool's,
what does not carry calls reads LOG_LEVEL only. */}}
{{- define "voicepool.settings" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
{{- $common := $root.Values.settings -}}
{{- if not (has (index . 1) (list "dispatcher" "worker")) -}}
{{- $common = pick $common "LOG_LEVEL" -}}
{{- end -}}
{{- /* Not merge, which takes 0 and false for missing. */ -}}
{{- $settings := dict -}}
{{- range list $common ($values.settings | default dict) -}}
{{- range $name, $value := . -}}
{{- $_ := set $settings $name $value -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := $settings }}
{{- /* A number in values is a float, and would be written as 1e+06. */}}
{{ include "voicepool.variable" (list $name (ternary ($value | toJson) $value (kindIs "float64" $value))) }}
{{- end }}
{{- with $values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* How Redis is reached: (list $ "pool"), or "operator", or "webhooks". */}}
{{- define "voicepool.redisEnv" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.redis -}}
{{- $generated := dict "pool" "url" "operator" "operator-url" "webhooks" "webhooks-url" -}}
{{- $name := .existingSecret | default (include "voicepool.name" (list $root "redis")) -}}
{{- $key := index (ternary .secretKeys $generated (not (empty .existingSecret))) (index $ 1) -}}
{{ include "voicepool.secretVariable" (list "REDIS_URL" $name $key) }}
{{- if .sentinels }}
{{ include "voicepool.variable" (list "REDIS_SENTINELS" (join "," .sentinels)) }}
{{ include "voicepool.variable" (list "REDIS_SENTINEL_SERVICE" .sentinelService) }}
{{- with .sentinelPasswordSecret }}
{{ include "voicepool.secretVariable" (list "REDIS_SENTINEL_PASSWORD" . "sentinel-password") }}
{{- end }}
{{- end }}
{{- if .tls.caSecretName }}
{{ include "voicepool.variable" (list "REDIS_CA_FILE" "/etc/voicepool/redis-ca/ca.crt") }}
{{- end }}
{{- if .tls.clientSecretName }}
{{ include "voicepool.variable" (list "REDIS_CERT_FILE" "/etc/voicepool/redis-client/tls.crt") }}
{{ include "voicepool.variable" (list "REDIS_KEY_FILE" "/etc/voicepool/redis-client/tls.key") }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* Environment of dispatchers and workers: (list $ "worker"). */}}
{{- define "voicepool.poolEnv" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
{{ include "voicepool.fieldVariable" (list "POD_NAME" "metadata.name") }}
{{ include "voicepool.fieldVariable" (list "SIP_VIA_ADDR" (ternary "status.hostIP" "status.podIP" (index . 2))) }}
{{ include "voicepool.redisEnv" (list $root "pool") }}
{{- with $root.Values.leaseSecret }}
{{ include "voicepool.secretVariable" (list "LEASE_SECRET" (.existingSecret | default (include "voicepool.name" (list $root "lease"))) (ternary .secretKey "lease-secret" (not (empty .existingSecret)))) }}
{{- end }}
{{- if include "voicepool.agents" $root }}
{{ include "voicepool.variable" (list "AGENTS_FILE" "/etc/voicepool/agents/agents.yaml") }}
{{- end }}
{{ include "voicepool.variable" (list "TELEMETRY_HOST" "0.0.0.0") }}
{{ include "voicepool.variable" (list "TELEMETRY_PORT" $values.telemetryPort) }}
{{- with $root.Values.monitoring.otlpEndpoint }}
{{ include "voicepool.variable" (list "OTEL_EXPORTER_OTLP_ENDPOINT" .) }}
{{ include "voicepool.variable" (list "OTEL_RESOURCE_ATTRIBUTES" (printf "k8s.namespace.name=%s,k8s.pod.name=$(POD_NAME)" $root.Release.Namespace)) }}
{{- end }}
{{- end -}}

{{/* Name of the ConfigMap with the agent file; empty without. */}}
{{- define "voicepool.agents" -}}
{{- if .Values.agents.existingConfigMap -}}
{{- .Values.agents.existingConfigMap -}}
{{- else if .Values.agents.file -}}
{{- include "voicepool.name" (list . "agents") -}}
{{- end -}}
{{- end -}}

{{/* Files that every part has: Redis's certificates, and a place to write. */}}
{{- define "voicepool.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- if .Values.redis.tls.caSecretName }}
- name: redis-ca
  mountPath: /etc/voicepool/redis-ca
  readOnly: true
{{- end }}
{{- if .Values.redis.tls.clientSecretName }}
- name: redis-client
  mountPath: /etc/voicepool/redis-client
  readOnly: true
{{- end }}
{{- end -}}

{{- define "voicepool.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- with .Values.redis.tls.caSecretName }}
- name: redis-ca
  secret:
    secretName: {{ . }}
    items: [{key: ca.crt, path: ca.crt}]
{{- end }}
{{- with .Values.redis.tls.clientSecretName }}
- name: redis-client
  secret:
    secretName: {{ . }}
{{- end }}
{{- end -}}

{{/* The agent file. Mounted as a directory, because a file in one is never changed in a running pod. */}}
{{- define "voicepool.agentsMount" -}}
{{- if include "voicepool.agents" . }}
- name: agents
  mountPath: /etc/voicepool/agents
  readOnly: true
{{- end }}
{{- end -}}

{{- define "voicepool.agentsVolume" -}}
{{- with include "voicepool.agents" . }}
- name: agents
  configMap:
    name: {{ . }}
{{- end }}
{{- end -}}

{{/* Annotations of a part's pods: (list $ "worker" <further ones>). Secrets of these values are read at start only, so
pods are replaced with them; the agent file is not among them, since everybody takes a changed one by himself. */}}
{{- define "voicepool.podAnnotations" -}}
{{- $root := index . 0 -}}
{{- $given := list $root.Values.redis.url $root.Values.redis.operatorUrl $root.Values.redis.webhooksUrl $root.Values.voiceLive.apiKey -}}
{{- $annotations := merge (dict) (index $root.Values (index . 1)).podAnnotations (index . 2) -}}
{{- if compact $given -}}
{{- $_ := set $annotations "checksum/secrets" (join "\n" $given | sha256sum) -}}
{{- end -}}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Probes of dispatchers and workers: (list <what readiness asks: live or ready> <whether the pod asks itself> <longest start
in seconds>). In host mode only the pod knows its port, which is the block's. */}}
{{- define "voicepool.probes" -}}
{{- $exec := index . 1 -}}
{{- range $probe := list (list "startup" "live" 5 (div (index . 2) 5)) (list "liveness" "live" 10 6) (list "readiness" (index . 0) 5 2) }}
{{ index $probe 0 }}Probe:
  {{- if $exec }}
  exec:
    command: [python, -m, shared.telemetry.probe, {{ index $probe 1 }}]
  {{- else }}
  httpGet:
    path: /{{ index $probe 1 }}z
    port: telemetry
  {{- end }}
  periodSeconds: {{ index $probe 2 }}
  timeoutSeconds: 5
  failureThreshold: {{ index $probe 3 }}
{{- end }}
{{- end -}}
