"""A StageSet's stages, as far as they can be decided before anything is deployed: which items, in which order.

Fields and their meaning: metio/stageset-controller, api/v1/stageset_types.go, docs/content/defining-a-release.
"""

from __future__ import annotations

GROUP_VERSION, KIND = "stages.metio.wtf/v1", "StageSet"
STAGE = "krm-sops.dev/stage"
SOURCES = "krm-sops.dev/sources"
EMIT = "krm-sops.dev/emit"
ALLOW_PLAINTEXT = "krm-sops.dev/allow-plaintext"
BARRIER = "krm-sops.dev/barrier"
"""On the ConfigMap that stands for the end of a stage: its StageSet and name."""
