"""JSON schemas of the custom resources that the chart makes, as far as it uses them: fields by name and type.

Everything else is in Kubernetes' own schemas. A real API server, with the real definitions, is asked in
tests/deploy/cluster.
"""

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}


def _object(required: str, optional: str = "", **kinds: Schema) -> Schema:
    names = [*required.split(), *optional.split()]
    return {
        "type": "object",
        "required": required.split(),
        "additionalProperties": False,
        "properties": {name: kinds.get(name, TEXT) for name in names},
    }


def _list(of: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": of}


def _resource(api_version: str, spec: Schema) -> Schema:
    return _object(
        "apiVersion kind metadata spec", apiVersion={"const": api_version}, metadata={"type": "object"}, spec=spec
    )


_SELECTOR = _object("matchLabels", matchLabels={"type": "object"})

_RELABELING = _object("", "sourceLabels regex action targetLabel replacement", sourceLabels=_list(TEXT))

_SCALING = _object(
    "stabilizationWindowSeconds policies",
    stabilizationWindowSeconds=COUNT,
    policies=_list(_object("type value periodSeconds", value=COUNT, periodSeconds=COUNT)),
)

SCHEMAS: dict[str, Schema] = {
    "ScaledObject": _resource(
        "keda.sh/v1alpha1",
        _object(
            "scaleTargetRef minReplicaCount maxReplicaCount pollingInterval fallback advanced triggers",
            scaleTargetRef=_object("name"),
            minReplicaCount=COUNT,
            maxReplicaCount=COUNT,
            pollingInterval=COUNT,
            fallback=_object("failureThreshold replicas behavior", failureThreshold=COUNT, replicas=COUNT),
            advanced=_object(
                "horizontalPodAutoscalerConfig",
                horizontalPodAutoscalerConfig=_object(
                    "behavior", behavior=_object("scaleUp scaleDown", scaleUp=_SCALING, scaleDown=_SCALING)
                ),
            ),
            triggers=_list(
                _object(
                    "type metricType metadata",
                    "authenticationRef",
                    # KEDA takes texts only, whatever they mean.
                    metadata={"type": "object", "additionalProperties": TEXT},
                    authenticationRef=_object("name"),
                )
            ),
        ),
    ),
    "TriggerAuthentication": _resource(
        "keda.sh/v1alpha1", _object("secretTargetRef", secretTargetRef=_list(_object("parameter name key")))
    ),
    "PodMonitor": _resource(
        "monitoring.coreos.com/v1",
        _object(
            "selector podMetricsEndpoints",
            selector=_SELECTOR,
            podMetricsEndpoints=_list(_object("interval relabelings", "port", relabelings=_list(_RELABELING))),
        ),
    ),
    "ServiceMonitor": _resource(
        "monitoring.coreos.com/v1",
        _object(
            "selector endpoints",
            selector=_SELECTOR,
            endpoints=_list(
                _object(
                    "port interval relabelings authorization",
                    relabelings=_list(_RELABELING),
                    authorization=_object("type credentials", credentials=_object("name key")),
                )
            ),
        ),
    ),
    "PrometheusRule": _resource(
        "monitoring.coreos.com/v1",
        _object(
            "groups",
            groups=_list(
                _object(
                    "name rules",
                    "interval",
                    rules=_list(
                        _object(
                            "expr",
                            "record alert for keep_firing_for labels annotations",
                            labels={"type": "object", "additionalProperties": {"type": "string"}},
                            annotations={"type": "object", "additionalProperties": {"type": "string"}},
                        )
                    ),
                )
            ),
        ),
    ),
}
