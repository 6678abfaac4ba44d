{{- define "fleet-q.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 45 | trimSuffix "-" -}}
{{- end }}

{{/* 45 characters at most: the name of a pool (16) and a hyphen still fit into a label. */}}
{{- define "fleet-q.fullname" -}}
{{- $name := include "fleet-q.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* Every pod of the fleet, whatever its pool. */}}
{{- define "fleet-q.selectorLabels" -}}
app.kubernetes.io/name: {{ include "fleet-q.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "fleet-q.labels" -}}
{{ include "fleet-q.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: fleet-q
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- end }}

{{- define "fleet-q.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "fleet-q.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "fleet-q.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "fleet-q.authSecret" -}}
{{- .Values.auth.existingSecret | default (printf "%s-auth" (include "fleet-q.fullname" .)) -}}
{{- end }}

{{/* Where the API is for others inside the cluster. */}}
{{- define "fleet-q.url" -}}
{{- printf "http://%s.%s.svc:%v" (include "fleet-q.fullname" .) .Release.Namespace .Values.service.port -}}
{{- end }}

{{/* The pod needs its drain delay, then its grace, then a little time to release what is left. */}}
{{- define "fleet-q.terminationGrace" -}}
{{- $least := add 15 (ceil (addf .Values.config.drainDelaySeconds .Values.config.graceSeconds)) | int -}}
{{- $wanted := .Values.terminationGracePeriodSeconds -}}
{{- if kindIs "invalid" $wanted -}}
{{- $least -}}
{{- else if lt (int $wanted) $least -}}
{{- $why := "With less, Kubernetes kills pods before they have given back their steps" -}}
{{- $sum := "config.drainDelaySeconds + config.graceSeconds + 15" -}}
{{- fail (printf "terminationGracePeriodSeconds is %d; %s is %d. %s." (int $wanted) $sum $least $why) -}}
{{- else -}}
{{- int $wanted -}}
{{- end -}}
{{- end }}

{{/* Combinations that the schema cannot refuse. */}}
{{- define "fleet-q.check" -}}
{{- $given := without (pick .Values.database "url" "existingSecret" "urlFile" | values) "" -}}
{{- if not $given -}}
{{- $url := "postgres://USER:PASSWORD@HOST:5432/DATABASE" -}}
{{- list
      "Fleet-Q needs a Postgres. Give its URL in one of three ways:"
      "  --set database.existingSecret=NAME   a Secret; make it first:"
      (printf "      kubectl create secret generic NAME --from-literal=url=%s" $url)
      (printf "  --set database.url=%s   to try it: the chart makes the Secret" $url)
      "  --set database.urlFile=PATH   a file that a secret injector puts into the container"
    | join "\n" | fail -}}
{{- else if gt (len $given) 1 -}}
{{- fail "database.url, database.existingSecret and database.urlFile: set one of them only." -}}
{{- end -}}
{{- if and .Values.auth.insecure .Values.auth.existingSecret -}}
{{- fail "auth.insecure serves without tokens, auth.existingSecret names some: set one of them only." -}}
{{- end -}}
{{- with .Values.autoscaling -}}
{{- if gt (int .min) (int .max) -}}
{{- fail (printf "autoscaling.min is %d, above autoscaling.max, %d" (int .min) (int .max)) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The environment of a pod: exactly the names that src/config.ts knows. */}}
{{- define "fleet-q.env" -}}
- name: FLEET_Q_API_HOST
  value: "0.0.0.0"
- name: FLEET_Q_API_PORT
  value: "8000"
- name: FLEET_Q_POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- if .Values.database.urlFile }}
- name: DATABASE_URL_FILE
  value: {{ .Values.database.urlFile | quote }}
{{- else }}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef:
      {{- if .Values.database.existingSecret }}
      name: {{ .Values.database.existingSecret }}
      key: {{ .Values.database.existingSecretKey }}
      {{- else }}
      name: {{ include "fleet-q.fullname" . }}-database
      key: url
      {{- end }}
{{- end }}
{{- if .Values.auth.insecure }}
- name: FLEET_Q_INSECURE
  value: "1"
{{- else }}
- name: FLEET_Q_TOKENS
  valueFrom:
    secretKeyRef:
      name: {{ include "fleet-q.authSecret" . }}
      key: {{ .Values.auth.existingSecretKey }}
{{- end }}
{{- if .Values.commands }}
- name: FLEET_Q_COMMANDS
  value: /etc/fleet-q/commands.json
{{- end }}
{{- range $key, $value := .Values.config }}
- name: FLEET_Q_{{ $key | snakecase | upper }}
  {{- if kindIs "slice" $value }}
  value: {{ join "," $value | quote }}
  {{- else }}
  {{- /* toJson, because Go would print a million as 1e+06. */}}
  value: {{ toJson $value | trimAll "\"" | quote }}
  {{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "fleet-q.topologySpread" -}}
{{- if kindIs "slice" .Values.topologySpread -}}
{{- with .Values.topologySpread }}{{ toYaml . }}{{ end -}}
{{- else -}}
{{- /* Zones stay a wish even when hard: on nodes without a zone label nothing could be scheduled. */ -}}
{{- range $key, $unsatisfiable := dict
      "kubernetes.io/hostname" (ternary "DoNotSchedule" "ScheduleAnyway" (eq .Values.topologySpread "hard"))
      "topology.kubernetes.io/zone" "ScheduleAnyway" }}
- topologyKey: {{ $key }}
  maxSkew: 1
  whenUnsatisfiable: {{ $unsatisfiable }}
  labelSelector:
    matchLabels:
      {{- include "fleet-q.selectorLabels" $ | nindent 6 }}
      app.kubernetes.io/component: {{ $.pool }}
  # Pods of the old and the new version are spread apart, or a rollout would end up lopsided.
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end -}}
{{- end }}

{{/* One Deployment: of the fleet itself (pool "main"), or of one of its pools. */}}
{{- define "fleet-q.deployment" -}}
{{- $fullname := include "fleet-q.fullname" . -}}
{{- $main := eq .pool "main" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $main | ternary $fullname (printf "%s-%s" $fullname .pool) }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "fleet-q.labels" . | nindent 4 }}
    app.kubernetes.io/component: {{ .pool }}
spec:
  {{- /* Beside an autoscaler every upgrade would set it back, or server-side apply would refuse it. */}}
  {{- if not (and $main (ne .Values.autoscaling.mode "none")) }}
  replicas: {{ .Values.replicaCount }}
  {{- end }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
  selector:
    matchLabels:
      {{- include "fleet-q.selectorLabels" . | nindent 6 }}
      app.kubernetes.io/component: {{ .pool }}
  template:
    metadata:
      labels:
        {{- with .Values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- /* Not fleet-q.labels: the chart's version would restart the fleet for nothing. */}}
        {{- include "fleet-q.selectorLabels" . | nindent 8 }}
        app.kubernetes.io/component: {{ .pool }}
      annotations:
        # New pods when what they read at start has changed. (A Secret of yours is not seen from here.)
        checksum/config: {{ list .Values.database.url .Values.commands | toJson | sha256sum }}
        {{- with .Values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "fleet-q.serviceAccountName" . }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ include "fleet-q.terminationGrace" . }}
      securityContext:
        {{- toYaml .Values.podSecurityContext | nindent 8 }}
      {{- with .Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: fleet-q
          image: {{ include "fleet-q.image" . }}
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          securityContext:
            {{- toYaml .Values.securityContext | nindent 12 }}
          ports:
            - name: http
              containerPort: 8000
          env:
            {{- include "fleet-q.env" . | nindent 12 }}
          {{- with .Values.extraEnvFrom }}
          envFrom:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          # Up to a minute to connect and to migrate.
          startupProbe:
            httpGet: { path: /readyz, port: http }
            periodSeconds: 2
            timeoutSeconds: 2
            failureThreshold: 30
          readinessProbe:
            httpGet: { path: /readyz, port: http }
            periodSeconds: 5
            timeoutSeconds: 3
            failureThreshold: 3
          # Does not ask the database: an outage must not restart the fleet. Patient for longer than
          # stallSeconds: a pod whose event loop is stuck gives itself up first, and says why.
          livenessProbe:
            httpGet: { path: /health, port: http }
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: {{ max 6 (add 1 (ceil (divf .Values.config.stallSeconds 10))) }}
          resources:
            {{- toYaml .Values.resources | nindent 12 }}
          volumeMounts:
            - name: tmp
              mountPath: /tmp
            {{- if .Values.commands }}
            - name: commands
              mountPath: /etc/fleet-q
              readOnly: true
            {{- end }}
            {{- with .Values.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir:
            sizeLimit: {{ .Values.tmpSizeLimit }}
        {{- if .Values.commands }}
        - name: commands
          configMap:
            name: {{ $fullname }}-commands
        {{- end }}
        {{- with .Values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with include "fleet-q.topologySpread" . | trim }}
      topologySpreadConstraints:
        {{- . | nindent 8 }}
      {{- end }}
      {{- with .Values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
{{- end }}
