{{/* What values.schema.json cannot say: values that do not go together. All of it is told at once. */}}

{{/* Longest call that the agents allow, in seconds (limits.max_call_s). The default stands for an existing ConfigMap, and for 0,
which is no limit: such calls end with the drain. */}}
{{- define "voicepool.longestCall" -}}
{{- $default := 3540.0 -}}
{{- $longest := $default -}}
{{- with .Values.agents.file -}}
{{- $file := fromYaml . -}}
{{- $common := (($file.defaults | default dict).limits | default dict).max_call_s | default $default -}}
{{- $longest = 0.0 -}}
{{- range $name, $agent := $file.agents | default dict -}}
{{- $longest = maxf $longest ((($agent | default dict).limits | default dict).max_call_s | default $common) -}}
{{- end -}}
{{- end -}}
{{- ceil $longest -}}
{{- end -}}

{{/* RTP ports of a worker pod, which is what a block of them has: six for each call. */}}
{{- define "voicepool.portsOfPod" -}}
{{- mul .Values.worker.processes .Values.worker.capacity 6 -}}
{{- end -}}

{{- define "voicepool.checks" -}}
{{- $problems := list -}}
{{- $values := .Values -}}
{{- with .Values.redis -}}
{{- $given := or .url .existingSecret .sentinels -}}
{{- if and .trial.enabled $given -}}
{{- $problems = append $problems "redis: url, existingSecret and sentinels go without redis.trial.enabled; set it to false" -}}
{{- end -}}
{{- if not (or .trial.enabled .url .existingSecret) -}}
{{- $problems = append $problems "redis: set url or existingSecret, or trial.enabled for a trial" -}}
{{- end -}}
{{- if and .url .existingSecret -}}
{{- $problems = append $problems "redis: url and existingSecret exclude each other" -}}
{{- end -}}
{{- end -}}
{{- with .Values.voiceLive -}}
{{- if and .endpoint $values.simulator.enabled -}}
{{- $problems = append $problems "voiceLive.endpoint goes without simulator.enabled; set it to false" -}}
{{- end -}}
{{- if not (or .endpoint $values.simulator.enabled) -}}
{{- $problems = append $problems "voiceLive.endpoint: set it, or simulator.enabled for a trial" -}}
{{- end -}}
{{- if gt (len (compact (list .apiKey .existingSecret (ternary "yes" "" .workloadIdentity.enabled)))) 1 -}}
{{- $problems = append $problems "voiceLive: apiKey, existingSecret and workloadIdentity exclude each other" -}}
{{- end -}}
{{- if and .endpoint (not (or .apiKey .existingSecret .workloadIdentity.enabled)) -}}
{{- $problems = append $problems "voiceLive: set existingSecret, apiKey or workloadIdentity.enabled" -}}
{{- end -}}
{{- if and .workloadIdentity.enabled (not .workloadIdentity.clientId) -}}
{{- $problems = append $problems "voiceLive.workloadIdentity.clientId is missing" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.agents.file .Values.agents.existingConfigMap -}}
{{- $problems = append $problems "agents: file and existingConfigMap exclude each other" -}}
{{- end -}}
{{- $file := fromYaml .Values.agents.file -}}
{{- if hasKey $file "Error" -}}
{{- $problems = append $problems (printf "agents.file is no YAML mapping: %s" $file.Error) -}}
{{- else if and .Values.agents.file (not $file.agents) -}}
{{- $problems = append $problems "agents.file has no agents" -}}
{{- else if lt (float64 .Values.worker.drainSeconds) (float64 (include "voicepool.longestCall" .)) -}}
{{- $problems = append $problems (printf "worker.drainSeconds: %v is shorter than the longest call, %s s (limits.max_call_s of the agents)" .Values.worker.drainSeconds (include "voicepool.longestCall" .)) -}}
{{- end -}}
{{- with .Values.sip.tls -}}
{{- if and .enabled (not .secretName) -}}
{{- $problems = append $problems "sip.tls.secretName is missing" -}}
{{- end -}}
{{- if and .enabled (eq (int .port) (int $values.sip.port)) -}}
{{- $problems = append $problems "sip.tls.port is the same as sip.port" -}}
{{- end -}}
{{- end -}}
{{- with .Values.worker -}}
{{- $host := eq $values.network.mode "host" -}}
{{- $blocks := ternary (int $values.network.portBlocks) 1 $host -}}
{{- $last := sub (add .mediaPort (mul $blocks (include "voicepool.portsOfPod" $))) 1 -}}
{{- if gt $last 65535 -}}
{{- $problems = append $problems (printf "worker: %d blocks of RTP ports (six for each call) from %v on end at %d, beyond 65535" $blocks .mediaPort $last) -}}
{{- end -}}
{{- $lastSip := sub (add .sipPort (mul $blocks .processes)) 1 -}}
{{- if and (le (int .mediaPort) (int $lastSip)) (ge (int $last) (int .sipPort)) -}}
{{- $problems = append $problems (printf "worker: the SIP ports %v to %d and the RTP ports %v to %d overlap" .sipPort $lastSip .mediaPort $last) -}}
{{- end -}}
{{- if $host -}}
{{- if not .podDeletionCost -}}
{{- if $values.monitoring.podMonitors -}}
{{- $problems = append $problems "monitoring.podMonitors needs worker.podDeletionCost in host mode: with it the pod tells its telemetry port" -}}
{{- end -}}
{{- end -}}
{{- if $values.dispatcher.hostNetwork -}}
{{- $dispatcher := int $values.dispatcher.telemetryPort -}}
{{- if and (ge $dispatcher (int .telemetryPort)) (lt $dispatcher (int (add .telemetryPort $blocks))) -}}
{{- $problems = append $problems "dispatcher.telemetryPort is one of the workers' on the same node; set it to one below worker.telemetryPort" -}}
{{- end -}}
{{- if and (ge (int $values.sip.port) (int .sipPort)) (le (int $values.sip.port) (int $lastSip)) -}}
{{- $problems = append $problems "sip.port is one of the workers' SIP ports on the same node" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.autoscaling -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- $problems = append $problems "autoscaling.minReplicas is more than maxReplicas" -}}
{{- end -}}
{{- if and (eq .type "keda") (eq .keda.source "metrics-api") (not $values.admin.enabled) -}}
{{- $problems = append $problems "autoscaling.keda.source: metrics-api needs admin.enabled" -}}
{{- end -}}
{{- if and (eq .type "keda") (eq .keda.source "prometheus") (not .keda.prometheusAddress) -}}
{{- $problems = append $problems "autoscaling.keda.prometheusAddress is missing" -}}
{{- end -}}
{{- end -}}
{{- with .Values.admin.ingress -}}
{{- if and .enabled (not $values.admin.enabled) -}}
{{- $problems = append $problems "admin.ingress needs admin.enabled" -}}
{{- end -}}
{{- if and .enabled (not (and .host .tlsSecretName)) -}}
{{- $problems = append $problems "admin.ingress: set host and tlsSecretName; tokens do not travel without TLS" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.webhooks.enabled (not (and .Values.webhooks.url .Values.webhooks.existingSecret)) -}}
{{- $problems = append $problems "webhooks: set url and existingSecret" -}}
{{- end -}}
{{- with $problems -}}
{{- fail (printf "\n\n%s\n" (join "\n" .)) -}}
{{- end -}}
{{- end -}}
