# One image for all roles: dispatcher, worker, admin, simulator (docs/containers.md). From the top down, what changes
# least comes first, so that a change of voicepool's own code makes only the last, small layer anew.
#
# It builds with BuildKit and with the classic builder, so it uses nothing that only one of them knows.

ARG BASE=debian:bookworm-slim


# ---- tools: compilers, headers and pip, of which nothing gets into the image
FROM ${BASE} AS tools
COPY worker/pjsip/native/apt-packages.txt /tmp/apt-packages.txt
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        binutils ca-certificates python3-pip python3-setuptools python3-venv python3-wheel \
        $(sed 's/#.*//' /tmp/apt-packages.txt | awk 'NF { print $1 }' | sort -u) \
    && rm -rf /var/lib/apt/lists/*


# ---- native: pjproject, pjsua2 and the audio port, by the step that `make setup` runs as well
FROM tools AS native
RUN python3 -m venv --without-pip /opt/native
COPY worker/pjsip/native /build
RUN apt-get update \
    && XDG_CACHE_HOME=/tmp/cache /opt/native/bin/python /build/build.py \
    && find /opt/native/lib -name '*.so*' -type f -exec strip --strip-unneeded {} + \
    && cp /tmp/cache/voicepool/pjproject-*/build.json /opt/native/lib/python3.11/site-packages/pjsua2.libs/ \
    && find /opt/native/lib -name '*.log' -delete \
    && /opt/native/bin/python -m compileall -q -f --invalidation-mode unchecked-hash /opt/native/lib \
    && rm -rf /tmp/cache /var/lib/apt/lists/*


# ---- packages: the locked Python packages, in a virtual environment that has no pip
FROM tools AS packages
RUN python3 -m venv --without-pip /opt/voicepool
COPY requirements-image.lock /build/
RUN python3 -m pip --python /opt/voicepool/bin/python install --no-cache-dir --no-compile --progress-bar off \
        --only-binary :all: --require-hashes -r /build/requirements-image.lock \
    # What only developers of these packages need. Libraries that wheels bring along are left as they are: after
    # auditwheel not all of them survive strip.
    && cd /opt/voicepool/lib/python3.11/site-packages \
    && find . -name '*.so' -not -path '*.libs/*' -exec strip --strip-unneeded {} + \
    && find . -type d -name tests -prune -exec rm -rf {} + \
    && find . \( -name '*.pyi' -o -name '*.a' -o -name '*.pyx' -o -name '*.pxd' \) -delete \
    && rm -rf numpy/f2py numpy/_core/include ../../../bin/[Aa]ctivate* \
    && /opt/voicepool/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash .


# ---- application: voicepool itself, as a wheel, with the version in its metadata
FROM packages AS application
COPY LICENSE README.md pyproject.toml /build/
COPY admin /build/admin
COPY dispatcher /build/dispatcher
COPY shared /build/shared
COPY simulator /build/simulator
COPY worker /build/worker
RUN cd /build \
    && python3 -m pip wheel --no-deps --no-build-isolation --no-cache-dir --wheel-dir /wheel . \
    && python3 -m pip --python /opt/voicepool/bin/python install --no-deps --no-index --no-compile --no-cache-dir \
        --prefix /application /wheel/*.whl \
    && /opt/voicepool/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /application/lib
COPY docker/entrypoint docker/health /application/bin/
RUN chmod 755 /application/bin/entrypoint /application/bin/health


# ---- the image
FROM ${BASE}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        # a voice for apologies and for the simulator; the interpreter; who reaps what a dead worker leaves behind
        ca-certificates espeak-ng python3 tini \
        # what pjproject is linked with
        libgsm1 libopus0 libspeex1 libspeexdsp1 libsrtp2-1 libssl3 libuuid1 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/* \
    && groupadd --gid 10001 voicepool \
    && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin voicepool
COPY --from=native /opt/native/lib/python3.11/site-packages /opt/voicepool/lib/python3.11/site-packages
COPY --from=packages /opt/voicepool /opt/voicepool
COPY --from=application /application /opt/voicepool

ENV PATH=/opt/voicepool/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    # The root file system may be read-only, and all code is compiled.
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    # In a container what listens on 127.0.0.1 is reached by nobody.
    ADMIN_HOST=0.0.0.0 \
    TELEMETRY_HOST=0.0.0.0 \
    TELEMETRY_PORT=9464
# The settings' `.env` is looked for here: whoever wants one mounts it.
WORKDIR /etc/voicepool
USER 10001:10001
STOPSIGNAL SIGTERM
# SIP (over TLS 5061), /metrics and probes, the HTTP API, the simulated Voice Live. RTP ports are a setting.
EXPOSE 5060/udp 5060/tcp 5061/tcp 9464/tcp 8080/tcp 8765/tcp
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["health", "live"]
ENTRYPOINT ["/usr/bin/tini", "--", "entrypoint"]

# At the end, so that another version does not make the layers anew.
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="voicepool" \
      org.opencontainers.image.description="Answers telephone calls (SIP, RTP) with Azure Voice Live." \
      org.opencontainers.image.licenses="GPL-3.0-or-later" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
