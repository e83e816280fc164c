#!/usr/bin/env python3
"""run.py - the GPU benchmark: our training steps and the peers' on this machine's card, one table.

    bench/gpu/run.py [--build BUILD] [--json] [--ours CASE ...] [--peers ENGINE:CASE ...] [--tokenizers FOLDER]

CASE is NAME,BATCH,SEQ,RANK[,MEMORY] as bench_train and bench/peers/gpu_peer.py take it. Without --ours and --peers: all cases, ours
alone. Where a case has a peer, ours runs before and after it, so that both see the same card, and the table gives the median of
ours. --json prints the rows as they come, one object a line, and no table.
"""
import argparse
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
CASES = ["smollm2-135m,8,1024,16", "qwen2.5-0.5b,8,1024,16", "llama3.2-1b,4,2048,16", "llama3.2-3b,4,2048,16",
         "qwen2.5-7b,2,2048,16", "llama3.1-8b,2,2048,16", "llama3.1-8b,2,2048,256",
         "llama3.1-8b,2,2048,16,remake", "llama3.1-8b,2,2048,16,offload"]


def run(command, as_json):
    """The JSON rows that a program prints; what else it says goes to stderr."""
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    rows = []
    for line in result.stdout.splitlines():
        if line.startswith("{"):
            rows.append(json.loads(line))
            if as_json:
                print(line, flush=True)
    if not rows:
        print(f"no result (exit {result.returncode}): {' '.join(command)}", file=sys.stderr)
    return rows


def table(rows):
    groups = {}
    for row in rows:
        case = row["case"].removesuffix(",keep")
        groups.setdefault((case, row["engine"]), []).append(row)
    print("| case | engine | tokens/s | step ms | peak GiB (NVML) | first step s | SM MHz |")
    print("|---|---|---|---|---|---|---|")
    for case in dict.fromkeys(case for case, _ in groups):
        for (of, engine), runs in groups.items():
            if of == case:
                middle = sorted(runs, key=lambda r: r["tok_s"])[len(runs) // 2]
                print(f"| {case} | {engine} | {middle['tok_s']:,.0f} | {middle['step_ms']:.1f} | {middle['peak_gib']:.1f} | "
                      f"{middle['first_step_s']:.1f} | {middle['sm_mhz']:.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(HERE, "..", "..", "build"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--steps", default="12")
    parser.add_argument("--ours", nargs="*")
    parser.add_argument("--peers", nargs="*", default=[])
    parser.add_argument("--tokenizers", default="")
    parser.add_argument("--peer-timeout", type=float, default=300)
    args = parser.parse_args()
    ours = args.ours if args.ours is not None else [] if args.peers else CASES
    program = [os.path.join(args.build, "bench_train"), "--json", "--steps", args.steps]
    peer = ["timeout", str(args.peer_timeout), sys.executable, os.path.join(HERE, "..", "peers", "gpu_peer.py"),
            "--steps", args.steps, "--tokenizers", args.tokenizers]
    rows = run(program + ours, args.json) if ours else []
    for text in args.peers:
        engine, _, case = text.partition(":")
        rows += run(program + [case], args.json)
        rows += run(peer + [engine, case], args.json)
        rows += run(program + [case], args.json)
    if not args.json:
        table(rows)
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
