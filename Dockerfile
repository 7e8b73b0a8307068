# The images of relayd and peer: a static binary and nothing else.
#
#   docker build --target relayd -t causeway/relayd .
#   docker build --target peer -t causeway/peer .
#
# Where no registry can be reached, "make images" builds the same from binaries
# that were built outside: it leaves out the stage that builds them.

FROM golang:1.26.8 AS build
WORKDIR /src
# The modules change less often than the code: they are downloaded again only then.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=devel
RUN make static VERSION=$VERSION

FROM scratch AS base
ARG VERSION=devel
LABEL org.opencontainers.image.vendor="Causeway" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
# A new volume takes its owner and mode from this directory.
COPY --chown=65532:65532 --from=build /src/bin/static/data /data
# The root filesystem may be read-only: what is temporary goes to the volume too.
ENV TMPDIR=/data
USER 65532:65532
STOPSIGNAL SIGTERM

FROM base AS relayd
LABEL org.opencontainers.image.title="relayd" \
      org.opencontainers.image.description="A libp2p relay for peers that cannot be dialled"
COPY --from=build /src/bin/static/relayd /bin/relayd
# "docker stop" kills after 10 s. Whoever gives more time (--stop-timeout,
# stop_grace_period) may let circuits run on for longer.
ENV RELAYD_DATA_DIR=/data RELAYD_DRAIN=8s
EXPOSE 4001/tcp 4001/udp 443/tcp
HEALTHCHECK --interval=5s --timeout=5s --start-period=20s CMD ["/bin/relayd", "healthcheck"]
ENTRYPOINT ["/bin/relayd"]
VOLUME /data

FROM base AS peer
LABEL org.opencontainers.image.title="peer" \
      org.opencontainers.image.description="A libp2p peer that others can reach from anywhere"
COPY --from=build /src/bin/static/peer /bin/peer
ENV PEER_DATA_DIR=/data
HEALTHCHECK --interval=5s --timeout=5s --start-period=20s CMD ["/bin/peer", "healthcheck"]
ENTRYPOINT ["/bin/peer"]
CMD ["up"]
VOLUME /data
