"""The JSON Schema of a job as people write it; what ``solyx.jobfile`` parses, for OpenAPI and editors.

Draft 2020-12 (OpenAPI 3.1). A schema cannot say all (a deadline in the past, both of two alternatives); the parser does.
"""

from __future__ import annotations

from typing import Any

from solyx.jobfields import (
    MAX_DEVICES,
    MAX_ENTRIES,
    MAX_GRACE_S,
    MAX_NAME,
    MAX_PARALLELISM,
    MAX_PRIORITY,
    MAX_TEXT,
    MAX_WEIGHT,
)

_NAME: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": MAX_NAME, "pattern": "^[!-~]+$"}
_TEXT: dict[str, Any] = {"type": "string", "maxLength": MAX_TEXT, "pattern": "^[^\\u0000]*$"}
_TEXT_MAP: dict[str, Any] = {
    "type": "object",
    "maxProperties": MAX_ENTRIES,
    "propertyNames": {"minLength": 1, "maxLength": MAX_NAME, "pattern": "^[^\\u0000]+$"},
    "additionalProperties": _TEXT,
}
_CPU: dict[str, Any] = {
    "description": 'Cores: 2, 0.5 or "500m".',
    "oneOf": [
        {"type": "number", "minimum": 0, "maximum": 1_000_000, "multipleOf": 0.001},
        {"type": "string", "pattern": "^([0-9]{1,6}m|[0-9]{1,6}(\\.[0-9]{1,3})?)$"},
    ],
}
_SIZE: dict[str, Any] = {
    "description": 'Bytes, or a size with a unit: "512Mi", "4Gi", "20G".',
    "oneOf": [
        {"type": "integer", "minimum": 0, "maximum": 2**60},
        {"type": "string", "pattern": "^[0-9]{1,6}(Ki|Mi|Gi|Ti|k|K|M|G|T)?$"},
    ],
}
_FEW = "([1-9][0-9]{0,3}(\\.[0-9]{1,3})?|0\\.[0-9]{0,2}[1-9])"  # of one unit; all units together stay below ten years
_DAYS = "([1-9][0-9]{0,2}(\\.[0-9]{1,3})?|0\\.[0-9]{0,2}[1-9])"
_DURATION: dict[str, Any] = {
    "description": 'Seconds, or a duration: "90m", "2h", "1h30m", "2d", "PT2H".',
    "oneOf": [
        {"type": "number", "exclusiveMinimum": 0, "maximum": 10 * 366 * 86400},
        {
            "type": "string",
            "pattern": "^("
            f"{_DAYS}d({_FEW}h)?({_FEW}m)?({_FEW}s)?|{_FEW}h({_FEW}m)?({_FEW}s)?|{_FEW}m({_FEW}s)?|{_FEW}s|"
            f"P{_DAYS}D(T{_FEW}H)?|PT{_FEW}H({_FEW}M)?({_FEW}S)?|PT{_FEW}M({_FEW}S)?|PT{_FEW}S|[1-9][0-9]{{0,6}})$",
        },
    ],
}
_TO_59, _TO_3600 = "[1-5]?[0-9]", "([0-9]{1,3}|[12][0-9]{3}|3[0-5][0-9]{2}|3600)"
_GRACE: dict[str, Any] = {
    "description": "From being told to stop to being killed: time for a last checkpoint; at most 1 h.",
    "oneOf": [
        {"type": "number", "minimum": 0, "maximum": MAX_GRACE_S},
        {
            "type": "string",
            "pattern": f"^({_TO_3600}s?|{_TO_59}m({_TO_59}s)?|60m|1h|0\\.[0-9]{{1,3}}h|"
            f"PT{_TO_3600}S|PT{_TO_59}M({_TO_59}S)?|PT60M|PT1H)$",
        },
    ],
    "default": "30s",
}
_WEIGHT: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": MAX_WEIGHT}
_COUNT: dict[str, Any] = {
    "description": "Whole devices, or a share of one below 1.",
    "oneOf": [
        {"type": "integer", "minimum": 1, "maximum": MAX_DEVICES},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "multipleOf": 0.001},
    ],
}
_DEVICE: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "kind": {"enum": ["gpu", "tpu", "fpga"], "default": "gpu"},
        "model": {**_NAME, "description": "The one model that will do."},
        "models": {"type": "array", "items": _NAME, "maxItems": MAX_ENTRIES, "description": "Models that will do."},
        "count": {**_COUNT, "default": 1},
    },
    "not": {"required": ["model", "models"]},
}
_LATENCY: dict[str, Any] = {"type": "number", "exclusiveMinimum": 0, "maximum": 60_000}

EXAMPLE: dict[str, Any] = {
    "name": "train-resnet",
    "image": "ghcr.io/acme/train:1.4",
    "command": ["python", "train.py", "--epochs", "90"],
    "env": {"DATA": "/data/imagenet"},
    "resources": {"cpu": 8, "memory": "32Gi", "devices": [{"kind": "gpu", "models": ["A100", "H100"], "count": 2}]},
    "parallelism": 4,
    "duration_estimate": "6h",
    "max_delay": "24h",
    "priority": 10,
    "preemptible": True,
    "suspendable": True,
    "grace_period": "2m",
    "data": {"size": "150Gi", "site": "frankfurt"},
    "allowed_sites": ["frankfurt", "texas"],
    "max_latency": {"to": "newyork", "ms": 120},
    "tolerations": ["maintenance"],
    "weights": {"carbon_eur_per_t": 150, "delay_eur_per_h": 0.2},
    "labels": {"team": "vision"},
}

JOB_SCHEMA: dict[str, Any] = {
    "title": "Job",
    "type": "object",
    "additionalProperties": False,
    "required": ["image", "resources", "duration_estimate"],
    "properties": {
        "name": {**_NAME, "default": "job"},
        "tenant": {**_NAME, "description": "For administrators: whose job it is."},
        "image": {**_NAME, "description": "Container image reference."},
        "command": {"type": "array", "items": _TEXT, "maxItems": MAX_ENTRIES},
        "env": _TEXT_MAP,
        "resources": {
            "description": "What one pod asks for.",
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "cpu": _CPU,
                "memory": _SIZE,
                "devices": {"type": "array", "maxItems": 16, "items": _DEVICE},
            },
        },
        "parallelism": {
            "description": "Pods that start together or not at all.",
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_PARALLELISM,
            "default": 1,
        },
        "duration_estimate": _DURATION,
        "deadline": {"type": "string", "format": "date-time", "description": "Finish by; excludes max_delay."},
        "max_delay": {**_DURATION, "description": "Start at most this long after submission."},
        "priority": {
            "description": "Higher goes first.",
            "type": "integer",
            "minimum": -MAX_PRIORITY,
            "maximum": MAX_PRIORITY,
            "default": 0,
        },
        "preemptible": {"type": "boolean", "default": False},
        "suspendable": {
            "description": "Writes checkpoints: may be stopped, and goes on where it was, here or elsewhere.",
            "type": "boolean",
            "default": False,
        },
        "grace_period": _GRACE,
        "data": {
            "description": "Input data that moves with the job, and where it lies.",
            "type": "object",
            "additionalProperties": False,
            "required": ["size", "site"],
            "properties": {"size": _SIZE, "site": _NAME},
        },
        "allowed_sites": {"type": "array", "items": _NAME, "minItems": 1, "maxItems": MAX_ENTRIES},
        "home_site": {**_NAME, "description": "Default: the tenant's."},
        "max_latency": {
            "description": "Run only where the round trip to a named place is at most this long.",
            "type": "object",
            "additionalProperties": False,
            "required": ["to", "ms"],
            "properties": {"to": _NAME, "ms": _LATENCY},
        },
        "max_latency_ms": {**_LATENCY, "description": "With `to`, the flat form of max_latency."},
        "to": {**_NAME, "description": "With max_latency_ms: the place."},
        "tolerations": {
            "description": "Taints of nodes that its pods accept.",
            "type": "array",
            "items": _NAME,
            "maxItems": MAX_ENTRIES,
        },
        "weights": {
            "description": "What carbon and delay weigh against energy cost for this job, in place of the federation's figures.",
            "type": "object",
            "additionalProperties": False,
            "properties": {"carbon_eur_per_t": _WEIGHT, "delay_eur_per_h": _WEIGHT},
        },
        "labels": _TEXT_MAP,
    },
    "examples": [EXAMPLE],
}
