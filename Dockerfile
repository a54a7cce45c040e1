# The images, one stage each: docker build --target sidecar|consumer|localcloud .
# Built from source, on scratch, without root. Works with BuildKit and with the builder before it, which
# has no --mount and builds every stage above the one it is asked for: so each takes over the build cache
# of the last. --platform linux/arm64 on another architecture needs BuildKit, and no emulator.

ARG GO_IMAGE=golang:1.26

FROM --platform=${BUILDPLATFORM:-linux} ${GO_IMAGE} AS source
LABEL com.github.snowkey.stage="build"
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
# What every image has: certificates, and the key directory, which no root is there to make.
RUN mkdir -p /image/etc/ssl/certs /image/run/snowflake \
	&& cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
	&& chown 65532:65532 /image/run/snowflake \
	&& chmod 0750 /image/run/snowflake
COPY . .

FROM source AS build-sidecar
ARG TARGETARCH VERSION REVISION
RUN CGO_ENABLED=0 GOARCH=${TARGETARCH} go build -trimpath \
	-ldflags "-s -w -X main.release=${VERSION} -X main.revision=${REVISION}" -o /bin/sidecar ./sidecar

FROM scratch AS sidecar
COPY --from=source /image/etc/ /etc/
COPY --from=source --chown=65532:65532 /image/run/ /run/
COPY --from=build-sidecar /bin/sidecar /sidecar
USER 65532:65532
# ECS and Docker give a new volume the owner and mode of this directory if it is declared, at exactly
# the path at which the volume is mounted.
VOLUME ["/run/snowflake"]
ENTRYPOINT ["/sidecar"]
ARG VERSION REVISION
LABEL org.opencontainers.image.title="snowkey sidecar" \
	org.opencontainers.image.description="Keeps a Snowflake key from SSM Parameter Store as files on a shared volume" \
	org.opencontainers.image.licenses="Apache-2.0" \
	org.opencontainers.image.version="${VERSION}" \
	org.opencontainers.image.revision="${REVISION}"

FROM build-sidecar AS build-consumer
ARG TARGETARCH
# minicore, a native library that the driver unpacks and loads, is nothing for a static binary on a
# read-only root.
RUN CGO_ENABLED=0 GOARCH=${TARGETARCH} go build -trimpath -tags minicore_disabled -ldflags "-s -w" -o /bin/consumer ./consumer

FROM scratch AS consumer
COPY --from=source /image/etc/ /etc/
COPY --from=build-consumer /bin/consumer /consumer
USER 65532:65532
ENTRYPOINT ["/consumer"]
ARG VERSION REVISION
LABEL org.opencontainers.image.title="snowkey consumer" \
	org.opencontainers.image.description="An example application that follows a Snowflake key" \
	org.opencontainers.image.licenses="Apache-2.0" \
	org.opencontainers.image.version="${VERSION}" \
	org.opencontainers.image.revision="${REVISION}"

FROM build-consumer AS build-localcloud
ARG TARGETARCH
RUN CGO_ENABLED=0 GOARCH=${TARGETARCH} go build -trimpath -ldflags "-s -w" -o /bin/localcloud ./internal/localcloud

FROM scratch AS localcloud
COPY --from=build-localcloud /bin/localcloud /localcloud
USER 65532:65532
EXPOSE 4566 8085
ENTRYPOINT ["/localcloud"]
CMD ["-ssm=0.0.0.0:4566", "-snowflake=0.0.0.0:8085"]
ARG VERSION REVISION
LABEL org.opencontainers.image.title="snowkey localcloud" \
	org.opencontainers.image.description="Parameter Store and Snowflake on one machine, for tests and demonstrations" \
	org.opencontainers.image.licenses="Apache-2.0" \
	org.opencontainers.image.version="${VERSION}" \
	org.opencontainers.image.revision="${REVISION}"
