"""`make helm-golden`: writes the golden files anew, one for each profile. What changed is for a person to look at."""

from tests.deploy.helm.chart import GOLDEN, PROFILES
from tests.deploy.helm.test_objects import golden_text

if __name__ == "__main__":
    for name in PROFILES:
        (GOLDEN / f"{name}.yaml").write_text(golden_text(name))
