# The function as an image: nothing but a standalone folder (krm_sops/standalone.py), certificates and two user names.
#
#   podman build --tag krm-sops .
#   podman run --rm --interactive --network none krm-sops <resource-list.yaml
#
# PYTHON_IMAGE is any image of Debian's kind with Python 3.11 or later and pip; nothing of it but the interpreter and
# the libraries it loads gets into the result. A release pins it by digest: --build-arg PYTHON_IMAGE=python@sha256:...
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim-trixie
FROM ${PYTHON_IMAGE} AS build
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends binutils >/dev/null
COPY container/requirements.txt container/requirements-build.txt /build/container/
RUN python3 -m pip install --quiet --no-cache-dir --root-user-action ignore --only-binary :all: --require-hashes \
      --target /build/packages --requirement /build/container/requirements.txt && \
    python3 -m pip install --quiet --no-cache-dir --root-user-action ignore --only-binary :all: --require-hashes \
      --target /build/backend --requirement /build/container/requirements-build.txt
COPY pyproject.toml README.md LICENSE /build/source/
COPY krm_sops/ /build/source/krm_sops/
COPY container/assemble /build/container/
RUN PYTHONPATH=/build/backend python3 -m pip install --quiet --no-cache-dir --root-user-action ignore --no-index \
      --no-build-isolation --no-deps --target /build/program /build/source && \
    PYTHONPATH=/build/program:/build/packages /build/container/assemble /build/image

FROM scratch
ARG VERSION=0
LABEL org.opencontainers.image.title="krm-sops" \
      org.opencontainers.image.description="Decrypts SOPS documents as a KRM function (kustomize, kpt, Argo CD)" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /build/image/ /
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ENTRYPOINT ["/opt/krm-sops/lib/krm-sops", "--inhibit-cache", "--library-path", "/opt/krm-sops/lib", \
            "/opt/krm-sops/bin/python", "-I", "-S", "-X", "utf8", "/opt/krm-sops/bin/krm-sops"]
