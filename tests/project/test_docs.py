"""Every command of README.md and of the documentation is walked, and every figure is the committed one."""

import argparse
import json
import re
import subprocess

import numpy as np
import pytest
import readme_table
from conftest import REPOSITORY
from pipeline import TARGET, environment
from readme_table import LEVELS, table, verdict
from ruamel.yaml import YAML
from walk import COMPARISONS, DOCS, FIRST_STEPS, MODELS, NOT_RUN, README, commands

from benchmarks.cifar10_replay.table import as_markdown
from leakgauge.commands import parser
from leakgauge.inference.comparisons import mean_over_seeds
from leakgauge.options import SECTIONS

INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
GENERATED = {f"docs/reference/{name}.md" for name in ("options", "command-line", "python")}


def test_the_readme_fits_on_two_screens():
    assert len(README.splitlines()) <= 130


def test_the_two_commands_are_targets_of_the_makefile_and_the_gate_runs_the_second():
    assert commands(README)[:2] == ["make repro", "make test"]
    makefile = (REPOSITORY / "Makefile").read_text()
    assert all(f"\n{command.removeprefix('make ')}:" in makefile for command in NOT_RUN)
    assert "make test" in (REPOSITORY / ".ci/run").read_text()


def test_every_page_with_commands_is_walked():
    with_commands = {name for name, text in DOCS.items() if set(commands(text)) - set(NOT_RUN)}
    assert with_commands == {*FIRST_STEPS, *COMPARISONS, *MODELS, "docs/guides/teams.md"}


def test_every_file_that_the_readme_and_its_neighbours_point_to_is_in_the_repository():
    for page in ("README.md", "CONTRIBUTING.md", "studies/README.md", *(path for path in DOCS)):
        text, folder = (REPOSITORY / page).read_text(), (REPOSITORY / page).parent
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)", text):
            assert (folder / link).is_file(), f"{page}: {link}"


def test_the_documentation_builds_strictly_with_every_link_and_anchor(tmp_path):
    command = ["mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = [path.read_text() for path in tmp_path.rglob("*.html")]
    assert (tmp_path / "guides/teams.html").exists()
    assert (tmp_path / "studies/defences/findings.html").exists()
    assert not any(re.search(r'src="https?:|<link[^>]*stylesheet[^>]*https?:', page) for page in pages), "no network"


def inline() -> list[tuple[str, str]]:
    """(page, code) of everything that stands in backticks in a sentence or a table, but in what the code made."""
    pages = {"README.md": README, **{name: text for name, text in DOCS.items() if name not in GENERATED}}
    without_blocks = {name: re.sub(r"```.*?```", "", text, flags=re.DOTALL) for name, text in pages.items()}
    return [(name, code) for name, text in without_blocks.items() for code in INLINE.findall(text)]


def test_every_file_of_the_code_that_a_sentence_names_is_there():
    named = re.compile(r"(leakgauge|stages|studies|tests|benchmarks|docs|examples|\.ci)/[\w./-]*")
    for page, code in inline():
        if named.fullmatch(code) and not (code.startswith("studies/metrics") and code.endswith("report.html")):
            assert (REPOSITORY / code).exists(), f"{page}: {code}"


def test_every_option_that_a_sentence_names_is_there_and_takes_the_value_that_it_shows():
    for page, code in inline():
        section, _, rest = code.partition(":" if ": " in code else ".")
        keys = section.split(".")
        if keys[0] not in SECTIONS or not re.fullmatch(r"[\w.]+", section):
            continue
        if ": " in code:  # `fit: {patience: 2}`, `score.attacks.rediffuse: {...}`
            value = YAML(typ="safe").load(re.sub("<[^>]*hash>", "'" + 40 * "0" + "'", rest))
            for key in reversed(keys[1:]):
                value = {key: value}
            SECTIONS[keys[0]].model_validate(value)
        elif re.fullmatch(r"[\w.]+", rest) and not rest.endswith(("py", "json")):
            options = SECTIONS[keys[0]]
            for key in rest.split("."):
                assert key in options.model_fields, f"{page}: {code}"
                options = options.model_fields[key].annotation


def test_every_command_that_a_sentence_names_is_there_with_its_options():
    makefile = (REPOSITORY / "Makefile").read_text()
    known = next(one for one in parser()._actions if isinstance(one, argparse._SubParsersAction)).choices
    for page, code in inline():
        words = code.split()
        if words[0] == "make":
            assert f"\n{words[1]}:" in makefile, f"{page}: {code}"
        if words[:2] == ["python", "-m"]:
            assert (REPOSITORY / f"{words[2].replace('.', '/')}.py").exists(), f"{page}: {code}"
        if words[0] == "leakgauge" and len(words) > 1:
            options = {word for word in words[2:] if word.startswith("--")}
            assert options <= set(known[words[1]]._option_string_actions), f"{page}: {code}"
    table = DOCS["docs/get-started.md"].split("Variants of the command")[1].split("A gate compares")[0]
    assert set(re.findall(r"--[a-z][a-z-]+", table)) <= set(known["audit"]._option_string_actions)


def test_what_the_page_of_studies_says_is_what_each_found():
    page = " ".join(DOCS["docs/studies.md"].split())
    for part in page.split(" ## ")[1:]:
        study = re.search(r"\.\./studies/(\w+)/findings\.md", part)[1]
        found = " ".join((REPOSITORY / f"studies/{study}/findings.md").read_text().split())
        said = re.findall(r"\*\*([^*]+)\*\*", part)
        assert said, study
        assert all(f"**{sentence}" in found for sentence in said), study


def test_every_study_and_every_benchmark_is_on_its_page():
    studies = {path.parent.name for path in REPOSITORY.glob("studies/*/findings.md")}
    assert studies == set(re.findall(r"\.\./studies/(\w+)/findings\.md", DOCS["docs/studies.md"]))
    benchmarks = {path.parent.name for path in REPOSITORY.glob("benchmarks/*/*.md")}
    assert benchmarks == set(re.findall(r"\.\./benchmarks/(\w+)/\w+\.md", DOCS["docs/benchmarks.md"]))


def test_what_is_said_to_hold_in_simulation_is_what_the_simulations_say():
    guarantees, validity = DOCS["docs/method/guarantees.md"], (REPOSITORY / "benchmarks/validity/README.md").read_text()
    said, found = (" ".join(text.split()) for text in (guarantees, validity))
    for here, there in (
        ("in at least 93 % of draws", "covers the true TPR in at least 93 % of draws"),
        ("in 91 to 100 % of draws", "covers the true area in 91 to 100 % of draws"),
        ("within 1 and 4 %", "within 1 and 4 % of the exact rate"),
        ("90 to 98 %, with a standard error of 4", "90 to 98 % of the exact rate, with a standard error of 4"),
        ("45 to 71 %", "At 0.1 % it is 45 to 71 %"),
    ):
        assert here in said, here
        assert there in found, there


def test_the_verdict_and_the_table_are_the_committed_result():
    assert verdict() in README, "run `python tests/readme_table.py --write`"
    assert table() in DOCS["docs/get-started.md"], "run `python tests/readme_table.py --write`"


def test_the_readme_tells_apart_only_what_a_paired_interval_does(tmp_path, monkeypatch):
    def figures(compared_with: str | None, gain: float | None, reach: float) -> dict:
        rates = {"auc": 0.9, "tpr_at_fpr_1e-2": 0.5, **{f"realised_fpr_at_alpha_{level}": 0.01 for level in LEVELS}}
        rates |= {f"{name}{end}": 0.4 for name in list(rates) for end in ("_ci_low", "_ci_high")}
        gains = {}
        for name in ("tpr_gain_at_fpr_1e-2", "auc_gain"):
            ends = (None, None) if gain is None else (gain - reach, gain + reach)
            gains |= {name: gain, f"{name}_ci_low": ends[0], f"{name}_ci_high": ends[1]}
        return rates | gains | {"compared_with": compared_with}

    (tmp_path / "metrics/details").mkdir(parents=True)
    details = tmp_path / f"metrics/details/{TARGET}.json"
    monkeypatch.setattr(readme_table, "REPOSITORY", tmp_path)
    metrics = {"marginal": figures(None, None, 0), "gbm": figures("marginal", 0.1, 0.2)}
    details.write_text(json.dumps({"judges": metrics}))
    assert "TPR at 1 % FPR no difference can be told; in AUC no difference can be told." in table().replace("\n", " ")
    metrics["gbm_fusion"] = figures("gbm", -0.3, 0.2)
    details.write_text(json.dumps({"judges": metrics}))
    assert table().replace("\n", " ").count("`gbm_fusion` less than `gbm`") == 2
    assert "gbm` more" not in table()


def test_no_page_says_that_a_learner_does_better():
    for name, text in {"README.md": README, **DOCS}.items():
        said = text.replace(table(), "")
        assert not re.search(r"catch(es)? more for|hard to beat|does as well as|\bbeats?\b|outperform", said), name


def test_what_is_said_of_the_replay_is_the_committed_one_with_intervals_over_its_seeds():
    rows = README.split("## How good is it?")[1].split("## Guarantees")[0].replace("\n", " ")
    page = " ".join(DOCS["docs/benchmarks.md"].split())
    seeds = json.loads((REPOSITORY / "benchmarks/cifar10_replay/results.json").read_text())["seeds"]
    assert len(seeds) == 5
    caught = {
        learner: np.array([100 * figures[learner]["tpr_at_fpr_1e-2"] for figures in seeds.values()])
        for learner in ("marginal", "stack")
    }
    for figures, unit in (
        (caught["marginal"], "%"),
        (caught["stack"], "%"),
        (caught["stack"] - caught["marginal"], "points"),
    ):
        mean, low, high = mean_over_seeds(figures, 0.95)
        said = rf"{mean:.1f} {unit}[\w\s]* \({low:.1f} to {high:.1f}[,)]"
        assert re.search(said, rows) and re.search(said, page), (mean, low, high)
    published = (REPOSITORY / "benchmarks/cifar10_replay/results.md").read_text()
    assert "| 50.8 % |" in rows
    assert re.search(r"31 network calls an image \| 500, and 500 of others[^|]*\| 50\.8 \|", published)
    assert all(
        re.search(rf"^\| {row}", published, re.MULTILINE) for row in ("marginal .*8.3, at", "stack .*1.7, at most 2.0")
    )


@pytest.mark.parametrize("name", ["results", "quick"])
def test_a_page_of_the_replay_is_made_of_the_figures_beside_it(name):
    folder = REPOSITORY / "benchmarks/cifar10_replay"
    results = json.loads((folder / f"{name}.json").read_text())
    assert (folder / f"{name}.md").read_text() == as_markdown(results)


def test_the_replay_tells_what_each_published_attack_needs_of_members_labels():
    page = (REPOSITORY / "benchmarks/cifar10_replay/results.md").read_text()
    assert "without member labels" not in page
    assert re.search(r"\| 500, and 500 of others[^|]*\| 50\.8 \|[^|]*\| 0\.939 \|", page)
    assert re.search(r"\| 20 % of all[^|]*\| 38 to 40 \|[^|]*\| 0\.951 \|", page)
