# One pod of the fleet. The database is somebody else's: the binaries for a Postgres of its own are left out.
#   docker build -t fleet-q:0.1.0 --build-arg VERSION=0.1.0 --build-arg REVISION=$(git rev-parse HEAD) .

FROM node:24-bookworm-slim AS build
WORKDIR /app
# Dependencies first: this layer is built again only when the lock file changes. None of them needs a script.
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN npm run build
# The same folder once more, with what runs and nothing else.
RUN npm ci --omit=dev --omit=optional --ignore-scripts
COPY sql ./sql
COPY bin ./bin
# Whatever the umask of the clone was: the user below has to read these.
RUN chmod -R a+rX package.json sql bin

FROM node:24-bookworm-slim
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="fleet-q" \
      org.opencontainers.image.description="A step queue for a fleet of pods, on Postgres alone" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
WORKDIR /app
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY --from=build /app/sql ./sql
COPY --from=build /app/bin ./bin
COPY --from=build /app/package.json ./
# Nobody reaches loopback inside a container. A pod that serves beyond it wants FLEET_Q_TOKENS, and says so.
ENV NODE_ENV=production \
    FLEET_Q_API_HOST=0.0.0.0 \
    FLEET_Q_API_PORT=8000
EXPOSE 8000
# A number, so that Kubernetes can see that it is not root. Everything above belongs to root and is only read.
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 CMD ["node", "dist/cli.js", "health"]
# node itself is process 1: npm would swallow SIGTERM, and with it the chance to give steps back.
CMD ["node", "dist/main.js"]
