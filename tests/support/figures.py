"""What tests measure and do not judge: kept in build/figures.txt, which tests/run.py shows after the suite."""
import os

from appliance import ROOT

PATH = os.path.join(ROOT, "build", "figures.txt")


def figure(text):
    print("\n" + text)
    with open(PATH, "a") as f:
        f.write(text + "\n")
