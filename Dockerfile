# The images, one stage each: docker build --target sidecar|consumer|localcloud .
# Built from source, on scratch, without root. Works with BuildKit and with the builder before it, which
# has no --mount and builds every stage above the one it is asked for: so each takes over the build cache
# of the last. --platform linux/arm64 on another architecture needs BuildKit, and no emulator.
#
# The layers are the same to the byte wherever the same commit is built with the same VERSION, REVISION and
# certificates, which are GO_IMAGE's: each is one tree, with times of zero. The image's own digest is, too, if
# the builder takes SOURCE_DATE_EPOCH, as BuildKit does from 0.11 on.

ARG GO_IMAGE=golang:1.26

FROM --platform=${BUILDPLATFORM:-linux} ${GO_IMAGE} AS source
LABEL com.github.snowkey.stage="build"
WORKDIR /src
COPY go.mod go.sum ./
RUN GOTOOLCHAIN=$(sed -n 's/^toolchain //p' go.mod) go mod download
COPY . .
# What images have: certificates, licences, and the key directory, which no root is there to make.
RUN mkdir -p /image/sidecar/etc/ssl/certs /image/sidecar/licenses /image/volume/run/snowflake \
	&& cp /etc/ssl/certs/ca-certificates.crt /image/sidecar/etc/ssl/certs/ \
	&& cp LICENSE /image/sidecar/licenses/ \
	&& cp -R /image/sidecar /image/consumer \
	&& mkdir /image/localcloud && cp -R /image/sidecar/licenses /image/localcloud/ \
	&& for program in sidecar consumer localcloud; do \
		cp licenses/$program.txt /image/$program/licenses/THIRD_PARTY_LICENSES.txt || exit 1; \
	done \
	&& chmod -R u=rwX,go=rX /image && chmod 0750 /image/volume/run/snowflake \
	&& find /image/volume -exec touch -d @0 {} +

FROM source AS build-sidecar
ARG TARGETARCH VERSION REVISION
# Programs that hold secrets are root's, with mode 0111: of a process whose user may not read its program the kernel
# shows neither environment nor memory, from before the first instruction on.
RUN scripts/build.sh ./sidecar "${TARGETARCH:-$(go env GOARCH)}" /image/sidecar/sidecar \
	&& chmod 0111 /image/sidecar/sidecar \
	&& find /image/sidecar -exec touch -d @0 {} +

FROM scratch AS sidecar
COPY --from=build-sidecar /image/sidecar/ /
COPY --from=source --chown=65532:65532 /image/volume/ /
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
RUN scripts/build.sh ./consumer "${TARGETARCH:-$(go env GOARCH)}" /image/consumer/consumer \
	&& chmod 0111 /image/consumer/consumer \
	&& find /image/consumer -exec touch -d @0 {} +

FROM scratch AS consumer
COPY --from=build-consumer /image/consumer/ /
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
RUN scripts/build.sh ./internal/local/localcloud "${TARGETARCH:-$(go env GOARCH)}" /image/localcloud/localcloud \
	&& find /image/localcloud -exec touch -d @0 {} +

FROM scratch AS localcloud
COPY --from=build-localcloud /image/localcloud/ /
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
