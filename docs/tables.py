"""Create the tables of the documentation from the files in ``benchmarks/results``."""

import json
from pathlib import Path

from matplotlib.figure import Figure

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
DATA = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "usps": "USPS"}
# For each row: (stage, key in the results, key in the paper's table).
ROWS = {
    "MixMate, scattering, untrained": ("INIT", "scattering", None),
    "**MixMate, scattering**": ("TRAIN", "scattering", None),
    "MixMate, pixels, untrained": ("INIT", "pixels", "INIT"),
    "**MixMate, pixels**": ("TRAIN", "pixels", "TRAIN"),
    "MixMate, scattering, incomplete images": ("TRAIN", "incomplete", "incomplete"),
    "DEC": ("TRAIN", "dec", "dec"),
    "DCN": ("TRAIN", "dcn", "dcn"),
    "DAMIC": ("TRAIN", "damic", "damic"),
    "K-DAE": ("TRAIN", "k_dae", "k_dae"),
    "N2D, 50 epochs": ("TRAIN", "n2d", None),
    "UMAP and GaussianMixture, scattering": ("TRAIN", "umap_scattering", None),
    "UMAP and GaussianMixture, pixels": ("TRAIN", "umap", None),
    "GaussianMixture, diagonal": ("TRAIN", "gaussian_mixture", None),
    "KMeans": ("TRAIN", "kmeans", None),
}
WITHOUT_SKIPPING = "_without_skipping"
# Columns of the table of tabular data, in addition to MixMate and GaussianMixture.
PLAIN_COLUMNS = {
    "KMeans": "KMeans",
    "MixMate, one graph": "MixMate, one graph",
    "MixMate, without rates": "without rates",
    "MixMate, one graph, without rates": "one graph, without rates",
}
IMAGE_NAMES = DATA | {
    "olivetti": "faces (Olivetti)",
    "coil20": "COIL-20",
    "umist": "UMIST",
    "kmnist": "KMNIST",
    "emnist": "EMNIST",
    "stl10": "STL-10",
}
# Fits of more sets of images, whose scores are shown, and those to labels of one half.
IMAGE_FITS = {
    "untrained": "MixMate, untrained",
    "MixMate": "**MixMate**",
    "KMeans": "KMeans",
}
CEILINGS = ["labels of half", "logistic regression"]
PLACES = ["alone", "beside"]
AUGMENTATION = ["without augmentation", "with augmentation"]
SCORES = ["ACC", "NMI", "ARI"]
HEADER = ["", *SCORES, "worst ACC", "seeds", "seconds", "parameters"]


def figures(name):
    """Read the results of a benchmark, with the machine on which it ran."""
    return json.loads((BENCHMARKS / "results" / f"{name}.json").read_text())


def measured_on(results):
    """Format the machine of the results as lines."""
    machine = ", ".join(f"{key} {value}" for key, value in results["machine"].items())
    return [f"Measured on: {machine}.", ""]


def list_table(header, rows):
    """Format a reStructuredText table as lines."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: auto", ""]
    for row in [header, *rows]:
        bullets = ["   * -", *["     -"] * (len(row) - 1)]
        lines += [
            f"{bullet} {cell}".rstrip()
            for bullet, cell in zip(bullets, row, strict=True)
        ]
    return [*lines, ""]


def millions(n_parameters):
    """Format a number of parameters."""
    return f"{n_parameters / 1e6:.2g} M"


def ours(summary, fits, stage):
    """Return the cells of a row, or None if there are no such fits."""
    if f"{stage} ACC" not in summary:
        return None
    scores = [summary[f"{stage} {score}"] for score in ("ACC", "NMI", "ARI")]
    cells = [f"{score['mean']:.3f}" for score in scores]
    if summary["seeds"] > 1:
        cells = [
            f"{mean} ± {score['std']:.3f}"
            for mean, score in zip(cells, scores, strict=True)
        ]
    cells += [f"{scores[0]['worst']:.3f}", str(summary["seeds"])]
    if stage == "INIT":
        return [*cells, "", ""]
    fits = list(fits.values())
    seconds = sum(fit["seconds"] for fit in fits) / len(fits)
    return [*cells, f"{seconds:.0f}", millions(fits[0]["parameters"])]


def published(row):
    """Return the cells of a row of the paper."""
    cells = [f"{row[s]:.2f}" if s in row else "" for s in ("ACC", "NMI", "ARI")]
    parameters = row.get("parameters")
    return [*cells, "", "", "", millions(parameters) if parameters else ""]


def table1():
    """Format Table 1 of the paper and the measured results for each data set."""
    results = figures("table1")
    paper = json.loads((BENCHMARKS / "paper_table1.json").read_text())
    lines = []
    for name, title in DATA.items():
        rows = []
        for row, (stage, key, published_key) in ROWS.items():
            summary, fits = (
                results[part].get(f"{name} {key}", {}) for part in ("summary", "runs")
            )
            if (cells := ours(summary, fits, stage)) is not None:
                rows.append([row, *cells])
            if (figures_there := paper[name].get(published_key)) is not None:
                rows.append(
                    [f"{row.strip('*')}, *in the paper*", *published(figures_there)]
                )
        lines += [title, "~" * len(title), "", *list_table(HEADER, rows)]
    return [*lines, *measured_on(results)]


# Rows of the table of the first page: label and key in the results.
FIRST_ROWS = {
    "**MixMate**": "scattering",
    "DCN, an auto-encoder": "dcn",
    "DEC, an auto-encoder": "dec",
    "KMeans": "kmeans",
    "GaussianMixture": "gaussian_mixture",
}


def first_rows():
    """Return the accuracy on MNIST and the time of a fit, by method."""
    results, rows = figures("table1"), []
    for label, key in FIRST_ROWS.items():
        accuracy = results["summary"][f"mnist {key}"]["TRAIN ACC"]["mean"]
        fits = results["runs"][f"mnist {key}"].values()
        minutes = sum(fit["seconds"] for fit in fits) / len(fits) / 60
        rows.append([label, f"{accuracy:.3f}", f"{minutes:.0f} min"])
    return rows


def first_page():
    """Format what the methods find in MNIST, and how long they take."""
    return list_table(["70,000 images of digits", "accuracy", "one core"], first_rows())


def plain():
    """Format the accuracies on tabular data, with and without parts of the default."""
    results = figures("plain")
    rows = []
    for name, models in results["sets"].items():
        means = {model: of["ACC"]["mean"] for model, of in models.items()}
        gaussian = max(
            (model for model in means if model.startswith("Gaussian")), key=means.get
        )
        ours = models["MixMate"]
        cells = [f"{means['MixMate']:.3f}", f"{ours['ACC']['worst']:.3f}"]
        cells += [f"{means[gaussian]:.3f}, {gaussian.split(', ')[1]}"]
        cells += [f"{means[model]:.3f}" for model in PLAIN_COLUMNS]
        rows.append([name, *cells])
    header = ["", "MixMate", "worst", "GaussianMixture", *PLAIN_COLUMNS.values()]
    return [*list_table(header, rows), *measured_on(results)]


def suite():
    """Format mean scores over many data sets, beside published ones, and each set."""
    results = figures("suite")
    published = json.loads((BENCHMARKS / "published_suite.json").read_text())
    summary = results["summary"]
    below = [
        key for key in next(iter(summary["methods"].values())) if key.startswith("NMI ")
    ]
    rows = []
    for method, of in summary["methods"].items():
        means = [f"{of[score]:.3f}" for score in SCORES]
        ranks = [f"{of['rank'][score]:.1f}" if "rank" in of else "" for score in SCORES]
        numbers = [len(of[key]) for key in below]
        rows.append([method, *means, *ranks, *numbers, of["sets with failed fits"]])
    for method, of in published["methods"].items():
        means = [f"{of[score]:.3f}" for score in SCORES]
        cells = [""] * (len(rows[0]) - 1 - len(means))
        rows.append([f"{method}, *in CLUBench*", *means, *cells])
    ranks = [f"rank by {score}" for score in SCORES]
    of_sets = [of_set(name, of) for name, of in results["sets"].items()]
    header = ["", "rows", "columns", "clusters", "MixMate", "KMeans", "best peer", ""]
    return [
        *list_table(["", *SCORES, *ranks, *below, "sets with failed fits"], rows),
        f"{summary['sets']} sets. *In CLUBench*: {published['source']}.",
        "",
        "NMI of each set, and the peer with the highest, chosen with the labels:",
        "",
        *list_table(header, of_sets),
        *measured_on(results),
    ]


def of_set(name, results):
    """Return the cells of a data set: its size, and the NMI of ours and of peers."""
    means = {method: of["NMI"]["mean"] for method, of in results["methods"].items()}
    peers = [method for method in means if not method.startswith("MixMate")]
    best = max(peers, key=means.get)
    sizes = [f"{results[key]:,}" for key in ("rows", "columns", "clusters")]
    cells = [f"{means[method]:.3f}" for method in ("MixMate", "KMeans", best)]
    return [name.replace("_", " "), *sizes, *cells, best]


def images():
    """Format scores of more sets of images, with published ones, and their sources."""
    results = figures("images")
    published = json.loads((BENCHMARKS / "published.json").read_text())["sets"]
    header = ["", "images", "classes", *IMAGE_FITS.values()]
    header += ["MixMate, worst ACC", "seconds of a fit"]
    header += [*CEILINGS, *(f"published, {kind}" for kind in AUGMENTATION)]
    rows = []
    for name, of in results["sets"].items():
        shape = " x ".join(map(str, of["shape"]))
        row = [f"{set_name(name)}, {shape}", f"{of['images']:,}", of["classes"]]
        row += [mean_scores(of["fits"][fit]) for fit in IMAGE_FITS]
        row.append(f"{of['fits']['MixMate']['ACC']['worst']:.3f}")
        row.append(f"{of['seconds']:.1f}")
        row += [f"{of['fits'][fit]['ACC']['mean']:.3f}" for fit in CEILINGS]
        for kind in AUGMENTATION:
            entries = published.get(name, {}).get(kind, [])
            cells = []
            for score in SCORES if entries else []:
                best = max(entry.get(score, 0) for entry in entries)
                cells.append(f"{best:.3f}" if best else "-")
            row.append(" / ".join(cells))
        rows.append(row)
    sources = []
    for name, kinds in published.items():
        for kind, entries in kinds.items():
            for entry in entries:
                cells = [f"{entry[s]:.3f}" if s in entry else "" for s in SCORES]
                row = [set_name(name), kind, entry["method"], *cells, entry["source"]]
                sources.append(row)
    return [
        *list_table(header, rows),
        *measured_on(results),
        "Best published scores, of fits without labels:",
        "",
        *list_table(["", "", "method", *SCORES, "source"], sources),
    ]


def turning():
    """Format scores of drawn objects that turn."""
    results = figures("turning")
    rows = [
        [method, mean_scores(of), f"{of['ACC']['worst']:.3f}"]
        for method, of in results["methods"].items()
    ]
    header = ["", " / ".join(SCORES), "worst ACC"]
    return [*list_table(header, rows), *measured_on(results)]


def mean_scores(of):
    """Format the means of the scores of a fit."""
    return " / ".join(f"{of[score]['mean']:.3f}" for score in SCORES)


def set_name(name):
    """Format the name of a set of images."""
    return IMAGE_NAMES.get(name, name.replace("_", " "))


def likelihoods():
    """Format the scores of binary images and counts for each likelihood."""
    results = figures("likelihoods")
    rows = []
    for data, models in results["sets"].items():
        for name, of in models.items():
            means = [sum(of[key]) / len(of[key]) for key in ("ACC", "NMI", "ARI")]
            cells = [f"{mean:.3f}" for mean in means] + [f"{min(of['ACC']):.3f}"]
            cells.append(f"{sum(of['seconds']) / len(of['seconds']):.0f}")
            rows.append([f"{data}: {name}", *cells])
    header = ["", "ACC", "NMI", "ARI", "worst ACC", "seconds"]
    seeds = f"{results['images']:,} images, {results['seeds']} seeds."
    return [*list_table(header, rows), seeds, *measured_on(results)]


def fits():
    """Format times of whole fits of MNIST, relative to 50 epochs of MixMate."""
    results = figures("speed_fits")
    clocks = ("seconds", "processor_seconds")
    ratios = [results[f"{clock}_over_those_of_50_epochs_on_pixels"] for clock in clocks]
    rows = [
        [name, run["seconds"], run["processor_seconds"], *(of[name] for of in ratios)]
        for name, run in results["runs"].items()
    ]
    header = ["", "seconds", "CPU seconds", "ratio to MixMate", "ratio of CPU seconds"]
    in_turn = figures("speed_dec")
    low, middle, high = in_turn["dec_over_ours"]
    seconds = {name: of[1] for name, of in in_turn["seconds_of_all_epochs"].items()}
    return [
        *list_table(header, rows),
        *measured_on(results),
        f"All epochs of DEC: {seconds['DEC']:.0f} seconds, {middle} times as long as "
        f"MixMate (quartiles {low} and {high}), {seconds['ours']:.0f} seconds.",
        "",
        *measured_on(in_turn),
    ]


def speed():
    """Format the ratios of the speed benchmark, and the growth of times."""
    step, rate, predict, growths, memory = (
        figures(f"speed_{part}")
        for part in ("step", "rate", "predict", "growth", "memory")
    )
    scattering = figures("scattering")
    alone = predict["time_over_that_of_predict"]
    published, in_torch = step["published_over_ours"], step["torch_over_ours"]
    shares = {
        atoms: rate[atoms]["without_skipping"]["share_of_matrix_product_rate"][1]
        for atoms in ("50_atoms", "150_atoms")
    }
    rows = [
        ["published training step over step of MixMate", published["complete"][1]],
        ["the same, a quarter of the pixels missing", published["incomplete"][1]],
        [
            "step without the compiled encoder over step with it",
            in_torch["complete"][1],
        ],
        ["the same, a quarter of the pixels missing", in_torch["incomplete"][1]],
        [
            "step with a quarter missing over complete step",
            step["incomplete_over_complete"][1],
        ],
        ["fraction of the matrix-product rate, nothing skipped", shares["50_atoms"]],
        ["the same, 150 atoms", shares["150_atoms"]],
        [
            "matrix products of predict alone over predict",
            alone["its matrix products"][1],
        ],
        ["KMeans.predict over predict", alone["KMeans.predict"][1]],
    ]
    kymatio = ["kymatio over ScatteringTransform", scattering["ratio_quartiles"][1]]
    growth = [
        [
            name.replace(WITHOUT_SKIPPING, ", nothing skipped"),
            f"{of['sizes'][0]} to {of['sizes'][-1]}",
            of["exponent"][1],
        ]
        for name, of in growths.items()
        if "exponent" in of
    ]
    added = zip(*(memory[key] for key in ("data_mib", "fit_adds_mib")), strict=True)
    return [
        *list_table(["", "ratio"], rows),
        *list_table(["MiB of a memory map", "additional MiB of a fit"], added),
        *measured_on(step),
        *list_table(["", "ratio"], [kymatio]),
        *measured_on(scattering),
        *list_table(["time grows with", "range", "exponent"], growth),
        *measured_on(growths),
    ]


def distributed():
    """Format the results of two processes, and an estimate for many."""
    results = figures("distributed")
    rows = [
        [f"{text}, mini-batches of {batch_size}", of["two_over_one"][1]]
        for key, text in (
            ("strong", "images per second, the same images divided"),
            ("weak", "images per second, twice as many images"),
        )
        for batch_size, of in results[key].items()
    ]
    rows.append(["loss of a whole fit", results["loss"]["two_over_one"]])
    reducer = results["reducer"]
    return [
        *list_table(["", "ratio of two processes to one"], rows),
        f"A step sums {reducer['bytes'] / 1e6:.2g} MB, which takes "
        f"{reducer['milliseconds'][1]:.2g} ms here.",
        "",
        *measured_on(results),
        *on_paper(reducer["bytes"]),
    ]


def noise():
    """Format the results of models with fixed and with learned noise."""
    results = figures("noise")
    formats = {
        "NMI": ".3f",
        "calibration_error": ".3f",
        "log_density": ".1f",
        "noise_variance": ".2g",
        "seconds": ".1f",
    }
    rows = [
        [f"{data}, noise {noise}", *(format(of[key], formats[key]) for key in formats)]
        for data, runs in results.items()
        if data not in ("command", "machine")
        for noise, of in runs.items()
    ]
    header = ["", *(key.replace("_", " ") for key in formats)]
    return [*list_table(header, rows), *measured_on(results)]


def n_clusters():
    """Format how often criteria find the number of clusters."""
    results = figures("n_clusters")
    criteria = list(results["kinds"]["blobs"])
    rows = [
        [
            f"{kind}, {results['draws'][kind]} draws",
            *(
                f"{of[name]['right']:.2f}, {of[name]['within one']:.2f}"
                for name in criteria
            ),
        ]
        for kind, of in results["kinds"].items()
    ]
    rows += [
        [f"{name}, {of['classes']} classes", *(str(of[key]) for key in criteria)]
        for name, of in results["bundled"].items()
    ]
    header = ["", *(name.replace("_", " ") for name in criteria)]
    return [*list_table(header, rows), *measured_on(results)]


def merging():
    """Format the table of clusters that were merged."""
    results = figures("merging")
    summary, n_sets = results["summary"], len(results["sets"])
    header = ["", *(f"{kind} clusters" for kind in summary if kind != "new fit")]
    names = {
        "cut": "**cut**",
        "posteriors": "cut, posteriors as they are",
        "Ward on centres": "merged by Ward's criterion on the means",
        "k-means, Ward": "k-means, merged by Ward's criterion",
        "best": "each cluster named by its most frequent class",
    }

    def cell(scores):
        return f"{scores['NMI']:.3f} / {scores['ARI']:.3f}"

    cells = [["fit with the true number", *[cell(summary["new fit"])] * 2]]
    cells += [
        [text, *(cell(summary[kind][name]) for kind in summary if kind != "new fit")]
        for name, text in names.items()
    ]
    note = f"NMI / ARI, means over {n_sets} data sets."
    return [note, "", *measured_on(results), *list_table(header, cells)]


def mixed():
    """Format the table of scalings of one-hot columns."""
    means = figures("mixed")["means"]
    names = {
        "0 and 1": "**0 and 1**",
        "variable": "one factor per variable, of variance 1 in all",
        "rare": "divided by the root of their mean",
        "standardised": "standardised",
        "dropped": "left out",
    }
    header = ["columns of a variable", *(f"{kind} tables" for kind in means)]

    def cell(scores):
        return f"{scores['NMI']:.3f} / {scores['ARI']:.3f}"

    cells = [
        [text, *(cell(of[name]) for of in means.values())]
        for name, text in names.items()
    ]
    return list_table(header, cells)


def labels():
    """Format the accuracy of fits to a few labels."""
    results = figures("labels")
    methods = ["MixMate", "LabelSpreading", "LogisticRegression"]
    rows = [
        [
            f"{DATA[name]}, {number}",
            *(f"{sum(of[m]['ACC']) / len(of[m]['ACC']):.3f}" for m in methods),
            "",
        ]
        for name, numbers in results["sets"].items()
        if name in DATA
        for number, of in numbers.items()
    ]
    rows += [
        [
            f"Mean of {of['sets']} tabular sets, {number}",
            *(f"{of[method]:.3f}" for method in [*methods, "MixMate, without labels"]),
        ]
        for number, of in results["suite"].items()
    ]
    header = ["known", *methods, "MixMate, without labels"]
    return [*list_table(header, rows), *measured_on(results)]


def on_paper(n_bytes):
    """Estimate an epoch of a billion images of MNIST's size on 64 GPUs."""
    rate = figures("speed_rate")["50_atoms"]
    share = rate["without_skipping"]["share_of_matrix_product_rate"][1]
    n_rows, n_processes, n_own = 10**9, 64, 4096
    n_clusters, n_atoms, n_features, n_layers = 10, 50, 784, 15
    # Correlations and gradient use all features; each layer takes one product forward,
    # and for the backward pass one more forward and two backward.
    products = n_clusters * n_atoms * (2 * n_features + 4 * n_layers * n_atoms)
    n_steps = n_rows / (n_processes * n_own)
    flop, network, disk = 67e12, 25e9, 2e9  # per second
    rows = [
        [
            f"matrix products, at {share:.0%} of {flop / 1e12:.0f} TFLOP/s",
            2 * products * n_rows / n_processes / flop / share,
        ],
        [
            f"sums, at {network / 1e9:.0f} GB/s",
            n_steps * 2 * (1 - 1 / n_processes) * n_bytes / network,
        ],
        [
            f"reading float32, at {disk / 1e9:.0f} GB/s for each GPU",
            4 * n_features * n_rows / n_processes / disk,
        ],
    ]
    return [
        "Estimate for an epoch of a billion rows of MNIST's size on "
        f"{n_processes} GPUs, each with {n_own:,} rows of a mini-batch "
        f"({n_steps:,.0f} steps). The rates are assumptions: the float32 rate that the "
        "manufacturer states for an H100, times the fraction of the rate that is "
        "reached on this machine, a fast network, and a fast disk. None of it was run.",
        "",
        *list_table(["", "seconds"], [[text, f"{time:.2g}"] for text, time in rows]),
    ]


def rows():
    """Format rows per second with few and with many rows, and the cost of fits."""
    results = figures("rows")
    training = results["training"]
    rates = [training[f"rows_per_second_among_{name}"] for name in ("few", "many")]
    ratio = training["among_many_over_among_few"]
    lines = list_table(
        ["rows per second of an epoch", "lower quartile", "median", "upper quartile"],
        [
            ["with 100,000 rows", *(f"{rate:,.0f}" for rate in rates[0])],
            ["with all rows", *(f"{rate:,.0f}" for rate in rates[1])],
            ["ratio of the latter to the former", *ratio],
        ],
    )
    fits = [
        [
            f"{of['rows']:,}",
            *(f"{of[key]:,}" for key in ("data_mib", "fit_adds_mib", "labels_mib")),
            f"{of['rows_per_processor_second'][1]:,.0f}",
        ]
        for of in results.get("fits", [])
    ]
    header = ["rows of a fit", "MiB of data", "additional MiB", "of these, labels"]
    lines += list_table([*header, "rows per CPU second"], fits) if fits else []
    return [*lines, *measured_on(results)]


def sparse():
    """Format the figures of sparse rows: memory, times of steps, and texts."""
    results = figures("sparse")
    memory, text = results["memory"], results["text"]
    steps = [
        [
            f"{step['columns']:,}",
            step["batch_size"],
            step["n_atoms"],
            "{1} ({0} to {2})".format(*step["dense_over_sparse"]),
            "{1} ({0} to {2})".format(*step["dictionaries_over_sparse"]),
        ]
        for step in results["steps"]
    ]
    header = ["columns", "batch_size", "n_atoms", "dense / sparse", "dictionaries"]
    means = text["mean_nmi"]
    return [
        f"A fit of {memory['rows']:,} rows of {memory['columns']:,} columns with "
        f"{memory['entries']:,} stored entries, {memory['data_mib']} MiB, adds "
        f"{memory['fit_adds_mib']} MiB.",
        "",
        "Time of a training step on a dense array, divided by that on the same sparse "
        "rows, of which one entry in a hundred is stored, with quartiles; and the "
        "fraction of the latter that the update of the dictionaries takes:",
        "",
        *list_table(header, steps),
        f"{text['documents']:,} docstrings of {text['classes']} packages, "
        f"{text['words']:,} words: the NMI with the packages, mean of "
        f"{len(text['nmi_sparse'])} seeds, is {means['sparse']:.3f} on the TF-IDF "
        f"matrix and {means['components']:.3f} on 100 normalised components of it.",
        "",
        *measured_on(results),
    ]


def campaigns():
    """Format the table of random tests: numbers of tries, and the slowest try."""
    results, rows = figures("campaign"), {}
    for name, held in results["campaigns"].items():
        module, test = name.split("[")[0].replace("_", " ").split(".")
        key = module.removeprefix("test "), test.removeprefix("test ")
        tries, slowest = rows.get(key, (0, 0))
        slowest = max(slowest, held.get("slowest_seconds", 0))
        rows[key] = tries + held["tries"], slowest
    header = ["", "Test", "tries", "slowest, in seconds"]
    cells = [
        [*key, f"{n_tries:,.0f}", f"{slowest:.2f}"]
        for key, (n_tries, slowest) in rows.items()
    ]
    return [*measured_on(results), *list_table(header, cells)]


def busy():
    """Format the time of a fit beside another process that is busy."""
    results = figures("busy")
    names = {
        "default": "as many threads as cores",
        "passive": "the same, ``OMP_WAIT_POLICY=passive``",
        "one thread": "``OMP_NUM_THREADS=1``",
    }
    cells = [
        [
            name,
            *(f"{results[f'{way}, {place}']['seconds'][1]:.1f}" for place in PLACES),
        ]
        for way, name in names.items()
    ]
    header = ["fit of USPS, seconds", "alone", "beside a busy process"]
    return [*measured_on(results), *list_table(header, cells)]


def draw_growth(path):
    """Plot the growth of times with each size, relative to the smallest size."""
    results = figures("speed_growth")
    grown = {
        name: of
        for name, of in results.items()
        if "exponent" in of and WITHOUT_SKIPPING not in name
    }
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots(1, len(grown), sharey=True)
    for ax, (name, of) in zip(axes, grown.items(), strict=True):
        sizes = of["sizes"]
        ax.loglog(
            sizes, [size / sizes[0] for size in sizes], color="0.6", linestyle=":"
        )
        for run, marker in ((of, "o"), (results.get(name + WITHOUT_SKIPPING), "x")):
            if run is not None:
                times = run["milliseconds"]
                ax.loglog(sizes, [time / times[0] for time in times], marker=marker)
        ax.set_xticks(sizes, sizes, rotation=45)
        ax.set_yticks([1, 2, 5, 10], ["1", "2", "5", "10"])
        ax.minorticks_off()
        ax.set_xlabel(name)
    figure.supylabel("relative time")
    lines = ["proportional", "measured", "nothing skipped"]
    figure.legend(axes[0].lines, lines, loc="outside upper center", ncols=3)
    figure.savefig(path)


def write(folder):
    """Write all tables and plots to a folder, for ``include``."""
    folder.mkdir(exist_ok=True)
    (folder / "first_page.rst").write_text("\n".join(first_page()))
    (folder / "table1.rst").write_text("\n".join(table1()))
    (folder / "distributed.rst").write_text("\n".join(distributed()))
    (folder / "sparse.rst").write_text("\n".join(sparse()))
    (folder / "rows.rst").write_text("\n".join(rows()))
    (folder / "plain.rst").write_text("\n".join(plain()))
    (folder / "images.rst").write_text("\n".join(images()))
    (folder / "turning.rst").write_text("\n".join(turning()))
    (folder / "suite.rst").write_text("\n".join(suite()))
    (folder / "likelihoods.rst").write_text("\n".join(likelihoods()))
    (folder / "fits.rst").write_text("\n".join(fits()))
    (folder / "noise.rst").write_text("\n".join(noise()))
    (folder / "n_clusters.rst").write_text("\n".join(n_clusters()))
    (folder / "merging.rst").write_text("\n".join(merging()))
    (folder / "mixed.rst").write_text("\n".join(mixed()))
    (folder / "labels.rst").write_text("\n".join(labels()))
    (folder / "speed.rst").write_text("\n".join(speed()))
    (folder / "busy.rst").write_text("\n".join(busy()))
    (folder / "campaigns.rst").write_text("\n".join(campaigns()))
    draw_growth(folder / "growth.png")
