"""forgetting.py — five small tasks learnt one after the other, with SLAO and with weights that just go on
(simple): what is forgotten, as two tables. Fails when SLAO does not forget less.

    python3 forgetting.py BACKPROP MODEL FOLDER [docs.md]

The tasks are made here from a fixed seed: a word turned round, spelled, its letters sorted, its vowels
counted, two numbers added. FOLDER keeps the sessions, and a second call goes on with them. With a
file as the last argument the tables are written there as Markdown.
"""
import json
import pathlib
import random
import subprocess
import sys

ROWS, STEPS = 60, 30
WORDS = ("apple river stone cloud winter garden silver market copper forest planet bridge candle desert "
         "harbor island jacket kitten ladder mirror needle orange pencil rabbit saddle temple velvet "
         "window yellow anchor basket castle dragon engine falcon guitar hammer insect jungle lantern").split()
TASKS = {
    "reverse": lambda w, r: (f"Turn round: {w}", w[::-1]),
    "spell": lambda w, r: (f"Spell: {w}", "-".join(w.upper())),
    "sort": lambda w, r: (f"Sort the letters: {w}", "".join(sorted(w))),
    "vowels": lambda w, r: (f"Vowels in: {w}", f"{sum(c in 'aeiou' for c in w)} vowels"),
    "add": lambda w, r: (lambda a, b: (f"Add {a} and {b}", f"{a} + {b} = {a + b}"))(r.randrange(100), r.randrange(100)),
}


def write_tasks(folder):
    rng = random.Random(20)
    for name, make in TASKS.items():
        rows = [make(rng.choice(WORDS) + rng.choice(["", "s", "er"]), rng) for _ in range(ROWS)]
        (folder / f"{name}.jsonl").write_text("".join(
            json.dumps({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}) + "\n"
            for q, a in rows))


def session(backprop, model, folder, mode):
    out = folder / mode
    history = out / "run_history.json"
    if history.exists():
        run_id = json.loads(history.read_text())[-1]["run_id"]
        command = [backprop, "resume", run_id, "-o", str(out), "--json"]
    else:
        command = [backprop, "multi-run", "-m", model, "-o", str(out), "--merge-mode", mode, "--steps", str(STEPS),
                   "--batch-size", "4", "--gradient-accumulation", "1", "--lora-r", "16", "--lr", "5e-4",
                   "--final-lr", "5e-4", "--warmup-steps", "3", "--max-seq-length", "128", "--json"]
        for name in TASKS:
            command += ["-d", str(folder / f"{name}.jsonl")]
    result = folder / f"{mode}.json"
    if not result.exists():
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=sys.stderr, check=False)
        if done.returncode != 0:
            sys.exit(done.returncode)
        result.write_bytes(done.stdout)
    return json.loads(result.read_text())["matrix"]


def table(mode, matrix):
    names = list(TASKS)
    lines = [f"| `{mode}` | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for row in matrix["rows"]:
        label = "base model" if row["run"] == 0 else f"after {names[row['task']]}"
        cells = [f"**{x:.3f}**" if i == row["task"] else f"{x:.3f}" for i, x in enumerate(row["losses"])]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    for key in ("learnt", "forgotten"):
        lines.append(f"| {key} | " + " | ".join(f"{t[key]:.3f}" for t in matrix["tasks"]) + " |")
    return "\n".join(lines)


def forgotten(matrix):
    """Mean over all tasks but the last, which nothing follows."""
    values = [t["forgotten"] for t in matrix["tasks"]][:-1]
    return sum(values) / len(values)


def main():
    backprop, model, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    write_tasks(folder)
    matrices = {mode: session(backprop, model, folder, mode) for mode in ("slao", "simple")}
    text = "\n\n".join(table(mode, m) for mode, m in matrices.items())
    means = {mode: forgotten(m) for mode, m in matrices.items()}
    text += "\n\nForgotten on average: " + ", ".join(f"{m} {v:.3f}" for m, v in means.items()) + " nats a token.\n"
    print(text)
    if len(sys.argv) > 4:
        pathlib.Path(sys.argv[4]).write_text(text)
    if not means["slao"] < means["simple"]:
        sys.exit("SLAO does not forget less")


main()
