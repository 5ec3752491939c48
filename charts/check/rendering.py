"""Rendering the chart."""

import subprocess

import yaml
from common import CHART, KUBERNETES, check
from tools import helm


class Chart:
    def __init__(self):
        self.helm = helm()

    def run(self, *arguments):
        return subprocess.run([self.helm, *map(str, arguments)], capture_output=True, text=True)

    def template(self, *arguments, kubernetes=KUBERNETES[-1]):
        return self.run("template", "link", CHART, "--namespace", "messaging", "--kube-version", kubernetes, *arguments)

    def render(self, *arguments, kubernetes=KUBERNETES[-1]):
        done = self.template(*arguments, kubernetes=kubernetes)
        check(done.returncode == 0, f"helm template {' '.join(map(str, arguments))}:\n{done.stderr}")
        return [item for item in yaml.safe_load_all(done.stdout) if item]


def only(objects, kind, name=None):
    found = [o for o in objects if o["kind"] == kind and (name is None or o["metadata"]["name"] == name)]
    check(len(found) == 1, f"expected one {kind} {name or ''}, found {len(found)}")
    return found[0]
