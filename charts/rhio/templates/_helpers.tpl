{{- define "rhio.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* At most 50 characters, so that every name made from it, the services' too, stays under 63. */}}
{{- define "rhio.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "rhio.selectorLabels" -}}
app.kubernetes.io/name: {{ include "rhio.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: daemon
{{- end }}

{{/* Labels of every object but for the component. */}}
{{- define "rhio.commonLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: rhio
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "rhio.labels" -}}
{{ include "rhio.selectorLabels" . }}
{{ include "rhio.commonLabels" . }}
{{- end }}

{{- define "rhio.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "rhio.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "rhio.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "rhio.bindPort" -}}
{{- if hasKey .Values.config "bind_port" }}{{ int .Values.config.bind_port }}{{ else }}9102{{ end }}
{{- end }}

{{/* 0: HTTP is off. */}}
{{- define "rhio.httpBindPort" -}}
{{- if hasKey .Values.config "http_bind_port" }}{{ int .Values.config.http_bind_port }}{{ else }}3000{{ end }}
{{- end }}

{{/* "true", or nothing when HTTP is off. */}}
{{- define "rhio.http" -}}
{{- if ne (include "rhio.httpBindPort" .) "0" }}true{{ end }}
{{- end }}

{{- define "rhio.privateKeySecret" -}}
{{- default (printf "%s-private-key" (include "rhio.fullname" .)) .Values.privateKey.existingSecret }}
{{- end }}

{{- define "rhio.credentialsSecret" -}}
{{- printf "%s-credentials" (include "rhio.fullname" .) }}
{{- end }}

{{/*
The secrets that stand in config, as a map from the name of the environment variable to the text. They go into a Secret
and are taken out of the ConfigMap.
*/}}
{{- define "rhio.secretsInConfig" -}}
{{- $found := dict }}
{{- $nats := get (get .Values.config "nats" | default dict) "credentials" | default dict }}
{{- range $key := list "username" "password" "token" "nkey" }}
{{- with get $nats $key }}
{{- $_ := set $found (printf "RHIO_NATS__CREDENTIALS__%s" (upper $key)) (toString .) }}
{{- end }}
{{- end }}
{{- $s3 := get (get .Values.config "s3" | default dict) "credentials" | default dict }}
{{- range $key := list "access_key" "secret_key" "session_token" }}
{{- with get $s3 $key }}
{{- $_ := set $found (printf "RHIO_S3__CREDENTIALS__%s" (upper $key)) (toString .) }}
{{- end }}
{{- end }}
{{- /* An older name of the same key. */}}
{{- with get $s3 "security_token" }}
{{- if not (hasKey $found "RHIO_S3__CREDENTIALS__SESSION_TOKEN") }}
{{- $_ := set $found "RHIO_S3__CREDENTIALS__SESSION_TOKEN" (toString .) }}
{{- end }}
{{- end }}
{{- toYaml $found }}
{{- end }}

{{/* config.yaml as rhio gets it: config without secrets, with the paths that the chart mounts. */}}
{{- define "rhio.config" -}}
{{- $config := deepCopy .Values.config }}
{{- $_ := set $config "private_key_path" "/etc/rhio-key/private-key" }}
{{- $_ := set $config "blobs_dir" "/var/lib/rhio/blobs" }}
{{- $nats := get $config "nats" | default dict }}
{{- $credentials := get $nats "credentials" | default dict }}
{{- if .Values.nats.auth.existingSecret }}
{{- if eq .Values.nats.auth.method "credsFile" }}
{{- $credentials = dict "creds_file" (printf "/etc/rhio-nats-auth/%s" .Values.nats.auth.keys.credsFile) }}
{{- else }}
{{- $credentials = dict }}
{{- end }}
{{- end }}
{{- $credentials = omit $credentials "username" "password" "token" "nkey" }}
{{- $nats = omit $nats "credentials" }}
{{- if $credentials }}
{{- $_ := set $nats "credentials" $credentials }}
{{- end }}
{{- if .Values.nats.tls.existingSecret }}
{{- $tls := dict }}
{{- range $name, $key := .Values.nats.tls.keys }}
{{- if $key }}
{{- $_ := set $tls $name (printf "/etc/rhio-nats-tls/%s" $key) }}
{{- end }}
{{- end }}
{{- $_ := set $nats "tls" $tls }}
{{- end }}
{{- if $nats }}
{{- $_ := set $config "nats" $nats }}
{{- else }}
{{- $config = omit $config "nats" }}
{{- end }}
{{- $s3 := omit (get $config "s3" | default dict) "credentials" }}
{{- if .Values.s3.tls.existingSecret }}
{{- $_ := set $s3 "ca" (printf "/etc/rhio-s3-tls/%s" .Values.s3.tls.keys.ca) }}
{{- end }}
{{- if $s3 }}
{{- $_ := set $config "s3" $s3 }}
{{- else }}
{{- $config = omit $config "s3" }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{/* What, when it changes, needs a restart. */}}
{{- define "rhio.restartChecksum" -}}
{{- $config := include "rhio.config" . | fromYaml }}
{{- if not .Values.restart.onEveryChange }}
{{- $config = omit $config "nodes" "publish" "subscribe" }}
{{- end }}
{{- printf "%s\n%s" (toYaml $config) (include "rhio.secretsInConfig" .) | sha256sum }}
{{- end }}

{{/* Values that contradict each other, or that would put a secret where it can be read. */}}
{{- define "rhio.check" -}}
{{- $config := .Values.config }}
{{- if hasKey $config "private_key_path" }}
{{- fail "config.private_key_path is set by the chart. Put the key into a Secret and name it in privateKey.existingSecret." }}
{{- end }}
{{- if hasKey (get $config "tracing" | default dict) "headers" }}
{{- fail "config.tracing.headers would put a key into the ConfigMap. Set RHIO_TRACING__HEADERS with extraEnv, from a Secret." }}
{{- end }}
{{- if hasKey $config "blobs_dir" }}
{{- fail "config.blobs_dir is set by the chart. See blobs.existingClaim and blobs.sizeLimit for what is mounted there." }}
{{- end }}
{{- if regexMatch "^(127[.]|::1$)" (get $config "http_bind_address" | default "") }}
{{- fail "config.http_bind_address: only the pod itself would reach that, and the probes would fail. Leave it out; networkPolicy.httpFrom says who may ask." }}
{{- end }}
{{- $nats := get $config "nats" | default dict }}
{{- if contains "@" (get $nats "endpoint" | default "" | toString) }}
{{- fail "config.nats.endpoint has credentials in it, which would be readable in the ConfigMap. Put them into a Secret and name it in nats.auth.existingSecret." }}
{{- end }}
{{- $s3 := get $config "s3" | default dict }}
{{- if contains "@" (get $s3 "endpoint" | default "" | toString) }}
{{- fail "config.s3.endpoint has credentials in it. Put them into a Secret and name it in s3.auth.existingSecret." }}
{{- end }}
{{- if and .Values.nats.auth.existingSecret (get $nats "credentials") }}
{{- fail "nats.auth.existingSecret and config.nats.credentials are both set: use one of them." }}
{{- end }}
{{- if and .Values.nats.tls.existingSecret (get $nats "tls") }}
{{- fail "nats.tls.existingSecret and config.nats.tls are both set: use one of them." }}
{{- end }}
{{- $tls := .Values.nats.tls.keys }}
{{- if and .Values.nats.tls.existingSecret (ne (empty $tls.cert) (empty $tls.key)) }}
{{- fail "nats.tls.keys has only one of cert and key: a client certificate needs both." }}
{{- end }}
{{- if and .Values.s3.auth.existingSecret (get $s3 "credentials") }}
{{- fail "s3.auth.existingSecret and config.s3.credentials are both set: use one of them." }}
{{- end }}
{{- if and .Values.s3.tls.existingSecret (get $s3 "ca") }}
{{- fail "s3.tls.existingSecret and config.s3.ca are both set: use one of them." }}
{{- end }}
{{- if and (or $s3 .Values.s3.auth.existingSecret .Values.s3.tls.existingSecret) (not (get $s3 "endpoint")) }}
{{- fail "config.s3 has no endpoint. In a pod rhio's default, localhost, is never right: set config.s3.endpoint." }}
{{- end }}
{{- $publish := get $config "publish" | default dict }}
{{- $subscribe := get $config "subscribe" | default dict }}
{{- if and (or (get $publish "s3_buckets") (get $subscribe "s3_buckets")) (not $s3) }}
{{- fail "config publishes or subscribes buckets, but config.s3 is missing: set config.s3.endpoint." }}
{{- end }}
{{- $budget := .Values.podDisruptionBudget }}
{{- if and $budget.enabled (kindIs "invalid" $budget.minAvailable) (kindIs "invalid" $budget.maxUnavailable) }}
{{- fail "podDisruptionBudget.enabled needs maxUnavailable or minAvailable." }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled (not (include "rhio.http" .)) }}
{{- fail "serviceMonitor.enabled needs HTTP, which config.http_bind_port: 0 turns off." }}
{{- end }}
{{- if and (ne .Values.service.type "LoadBalancer") (or .Values.service.loadBalancerIP .Values.service.loadBalancerClass .Values.service.loadBalancerSourceRanges) }}
{{- fail "service.loadBalancerIP, loadBalancerClass and loadBalancerSourceRanges need service.type: LoadBalancer." }}
{{- end }}
{{- if and (eq .Values.service.type "ClusterIP") (or .Values.service.nodePort .Values.service.externalTrafficPolicy) }}
{{- fail "service.nodePort and service.externalTrafficPolicy need service.type: NodePort or LoadBalancer." }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if has .name (list "RHIO_BIND_PORT" "RHIO_HTTP_BIND_PORT" "RHIO_PRIVATE_KEY_PATH" "RHIO_BLOBS_DIR") }}
{{- fail (printf "extraEnv sets %s, which the Service, the probes and the volumes would not follow: use the chart's values." .name) }}
{{- end }}
{{- end }}
{{- end }}
