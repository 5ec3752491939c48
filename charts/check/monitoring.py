"""Alerts and the dashboard."""

import json
import re
import shutil
import subprocess

import yaml
from common import CHART, ROOT, check, say
from rendering import only
from tools import promtool


def known_metrics():
    """The series that docs/metrics.md promises."""
    series = set()
    for line in (ROOT / "docs" / "metrics.md").read_text().splitlines():
        row = re.match(r"\| `(rhio_[a-z_]+)(?:\{.*?\})?` \| (\w+)", line)
        if row:
            series |= {row[1] + end for end in (["_bucket", "_sum", "_count"] if row[2] == "histogram" else [""])}
    check(len(series) > 40, "docs/metrics.md was not understood")
    return series


def unknown_metrics(expression, series):
    return [name for name in re.findall(r"\brhio_[a-z_]+", expression) if name not in series]


def monitoring(chart, work):
    series = known_metrics()
    tool = promtool()
    objects = chart.render("--set", "prometheusRule.enabled=true,grafanaDashboard.enabled=true")
    rule = only(objects, "PrometheusRule")["spec"]
    rules = work / "rules.yaml"
    rules.write_text(yaml.safe_dump(rule))
    alerts = [r["alert"] for group in rule["groups"] for r in group["rules"]]
    for r in rule["groups"][0]["rules"]:
        check(
            not unknown_metrics(r["expr"], series),
            f"{r['alert']}: docs/metrics.md has no {unknown_metrics(r['expr'], series)}",
        )
        check(
            {"summary", "description", "runbook_url"} <= r["annotations"].keys() and "severity" in r["labels"],
            f"{r['alert']} is not complete",
        )
        check(r["annotations"]["runbook_url"].endswith("#" + r["alert"].lower()), f"{r['alert']}: runbook_url")
    promtool_run(tool, "check", "rules", rules)

    # promtool compares annotations word by word. They are looked at above; the tests are about when an alert fires.
    for r in rule["groups"][0]["rules"]:
        del r["annotations"]
    rules.write_text(yaml.safe_dump(rule))
    tests = CHART / "ci" / "alerts-test.yaml"
    tested = yaml.safe_load(tests.read_text())
    shutil.copyfile(tests, work / "alerts-test.yaml")
    cases = [
        (case["alertname"], bool(case.get("exp_alerts")))
        for test in tested["tests"]
        for case in test["alert_rule_test"]
    ]
    for alert in alerts:
        for fires in (True, False):
            check(
                (alert, fires) in cases,
                f"ci/alerts-test.yaml has no test where {alert} {'fires' if fires else 'stays silent'}",
            )
    promtool_run(tool, "test", "rules", work / "alerts-test.yaml")
    say(f"{len(alerts)} alerts: promtool accepts them; {len(cases)} tests of when they fire and when they do not")

    board = json.loads(next(o for o in objects if o["metadata"]["name"].endswith("-dashboard"))["data"]["rhio.json"])
    expressions = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    expressions += [annotation["expr"] for annotation in board["annotations"]["list"]]
    for expression in expressions:
        check(
            not unknown_metrics(expression, series),
            f"dashboard: docs/metrics.md has no {unknown_metrics(expression, series)}",
        )
    plain = [
        e.replace("$__rate_interval", "5m").replace("$namespace", ".*").replace("$instance", ".*") for e in expressions
    ]
    recorded = [{"record": f"panel:{n}", "expr": e} for n, e in enumerate(plain)]
    (work / "dashboard.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    promtool_run(tool, "check", "rules", "--lint=none", work / "dashboard.yaml")
    cells = [
        (panel["id"], x, y)
        for panel in board["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    check(
        len({cell[1:] for cell in cells}) == len(cells) and all(x < 24 for _, x, _ in cells),
        "panels of the dashboard lie on one another",
    )
    panels = sum(panel["type"] != "row" for panel in board["panels"])
    say(f"dashboard: {panels} panels, {len(expressions)} queries, accepted by promtool, all metrics in docs/metrics.md")


def promtool_run(tool, *arguments):
    done = subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True)
    check(done.returncode == 0, f"promtool {' '.join(map(str, arguments))}:\n{done.stdout}{done.stderr}")
