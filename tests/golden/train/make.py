"""Reference for the learning-rate schedules: every rate that transformers' get_scheduler gives a run,
read from the optimiser before each step, as the Trainer uses it.

Run:  python make.py    writes schedule.json   (versions in README.md)
"""
import json

import torch
from transformers import get_scheduler

KINDS = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
CASES = [  # lr, warm-up, steps
    (2e-4, 0, 1), (2e-4, 0, 10), (2e-4, 3, 10), (1e-3, 10, 37), (5e-5, 10, 10), (5e-5, 12, 10),
    (0.0, 2, 5), (2e-4, 10, 100),
]


def schedule(kind, lr, warmup, steps):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=lr)
    scheduler = get_scheduler(KINDS[kind], optimizer, warmup, steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return {"schedule": kind, "lr": lr, "warmup": warmup, "steps": steps, "rates": rates}


if __name__ == "__main__":
    with open("schedule.json", "w") as file:
        json.dump([schedule(kind, *case) for kind in KINDS for case in CASES], file)
        file.write("\n")
