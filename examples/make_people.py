"""Draw the table people.csv: 300 invented people of three kinds.

It has what tables of real files have: names of rows, text that is no category, columns
in different units, categories, and missing entries. Run it in this folder.
"""

import csv

import numpy as np

KINDS = [("student", 900, 24, "shared"), ("family", 3800, 41, "house")]
KINDS += [("pensioner", 2100, 71, "flat")]
HOMES = [home for *_, home in KINDS]
COMMENTS = ["", "called back", "moved in spring", "n/a", "prefers letters"]


def main():
    rng = np.random.default_rng(0)
    with open("people.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "income", "age", "home", "rooms", "comment", "kind"])
        for number in range(300):
            kind, income, age, home = KINDS[rng.integers(3)]
            rooms = rng.poisson(4 if home == "house" else 2) + 1
            if rng.random() < 0.2:
                home = HOMES[rng.integers(3)]
            row = [
                f"p{number:03d}",
                round(income * rng.lognormal(0, 0.25)),
                round(age + 5 * rng.normal()),
                home,
                rooms,
                COMMENTS[rng.integers(5)],
                kind,
            ]
            for column in (1, 2, 3):
                if rng.random() < 0.08:
                    row[column] = ""
            writer.writerow(row)


if __name__ == "__main__":
    main()
