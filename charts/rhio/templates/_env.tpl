{{/* Environment variables of the container: secrets from Secrets, then what extraEnv adds. */}}
{{- define "rhio.env" -}}
{{- $auth := .Values.nats.auth }}
{{- $ways := dict "userPassword" (list "username" "password") "token" (list "token") "nkey" (list "nkey") "credsFile" list }}
{{- if $auth.existingSecret }}
{{- range $key := get $ways $auth.method }}
{{- include "rhio.envFromSecret" (list (printf "RHIO_NATS__CREDENTIALS__%s" (upper $key)) $auth.existingSecret (get $auth.keys $key)) }}
{{- end }}
{{- end }}
{{- $s3 := .Values.s3.auth }}
{{- if $s3.existingSecret }}
{{- range $variable, $key := dict "ACCESS_KEY" $s3.keys.accessKey "SECRET_KEY" $s3.keys.secretKey "SESSION_TOKEN" $s3.keys.sessionToken }}
{{- if $key }}
{{- include "rhio.envFromSecret" (list (printf "RHIO_S3__CREDENTIALS__%s" $variable) $s3.existingSecret $key) }}
{{- end }}
{{- end }}
{{- end }}
{{- $secret := include "rhio.credentialsSecret" . }}
{{- range $name, $_ := include "rhio.secretsInConfig" . | fromYaml }}
{{- include "rhio.envFromSecret" (list $name $secret $name) }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "rhio.envFromSecret" }}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ index . 1 }}
      key: {{ index . 2 }}
{{- end }}
