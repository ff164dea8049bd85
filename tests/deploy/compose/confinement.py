"""What every container of docker-compose.yml is kept from, whoever made its image."""

import json

from tests.deploy.compose.stack import Stack


def assert_confined(stack: Stack, service: str) -> None:
    """Each container of a service runs as nobody in particular, may do and write little, and has bounds."""
    containers = stack.containers(service)
    assert containers
    for container in containers:
        [inspected] = json.loads(stack.engine.docker("inspect", container.id))
        host = inspected["HostConfig"]
        assert inspected["Config"]["User"] not in ("", "0", "root")
        assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["CapAdd"] and not host["Privileged"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert host["Memory"] > 0 and host["PidsLimit"] > 0
        assert host["RestartPolicy"]["Name"] == "unless-stopped"
        assert host["LogConfig"]["Config"]  # the engine's default would keep all lines for ever
