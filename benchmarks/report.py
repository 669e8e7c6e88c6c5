"""The measurements as Markdown: what `make readme` writes into README.md and pages of docs/."""

import statistics

from tools.markdown import page, table

NAMES = {
    "this_project": "this project",
    "keras_fit": "Keras `fit`",
    "keras_fit_xla": "Keras `fit`, XLA, 100 steps an execution",
    "pytorch": "PyTorch loop",
    "native": "this project, `instructions: native`",
    "folder_end_to_end": "this project, JPEG files from disk to result",
    "folder_end_to_end_native": "the same, `instructions: native`",
    "keras_predict": "`model.predict`",
    "onnx_runtime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "photos_this_project": "this project",
    "photos_keras": "`load_img` and `model.predict`, which do not antialias",
    "photos_openvino": "Pillow in two threads, then OpenVINO, by hand",
    "photos_decoded": "this project, decoding alone",
}

# --------------------------------------------------------------------------------------- README.md, docs/performance.md


def highlights(results: dict) -> str:
    """The few lines of README.md."""
    rates, networks = results["inference"]["images_per_s"], results["networks"]
    epochs = (
        f"`{version}` {block['seconds']['keras_fit'] / block['seconds']['this_project']:.1f}x"
        for version, block in results["training"].items()
    )
    lines = [
        f"- An epoch, against Keras `fit`: {', '.join(epochs)} as fast.",
        f"- {len(networks)} networks that people train on MNIST, against `fit`: {span(networks)}.",
        f"- ResNet50, against `model.predict`: {rates['this_project'] / rates['keras_predict']:.1f}x as fast; against OpenVINO "
        f"called directly, which may use AVX-512: {rates['this_project'] / rates['openvino']:.1f}x.",
        f"- Measured side by side on {processor(results)}.",
    ]
    return page("\n".join(lines))


def performance(results: dict) -> str:
    """The tables of docs/performance.md."""
    machine, bounds = results["machine"], results["lower_bounds"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return page(
        f"Measured by `make bench` on {processor(results)} with "
        f"{machine['memory_gib']} GiB: medians of {machine['turns']} rounds in turn, the pipeline once ({versions}).",
        training(results["training"]),
        networks("Networks that people train on MNIST", results["networks"]),
        f"Times as fast as `fit`: {span(results['networks'])}.",
        networks("The versions of `params.yaml`", results["shipped"]),
        inference(results["inference"]),
        photos(results["photos"]),
        ray(results["ray"]),
        pipeline(results["pipeline"]),
        f"Lower bounds: this machine computes {bounds['matrix_gflop_per_s']:.0f} GFLOP/s in matrix products of float32, "
        f"and moves {bounds['copy_gb_per_s']:.0f} GB/s to and from memory.",
        lower_bounds(results),
        growth(results),
    )


def processor(results: dict) -> str:
    """What was measured on."""
    return f"{results['machine']['cores']} cores of an {results['machine']['processor']}"


def training(versions: dict) -> str:
    """An epoch of each version: everybody's seconds, in brackets how many times ours they are, and the processor time."""
    rows = []
    for version, block in versions.items():
        ours, processor = block["seconds"]["this_project"], block.get("cpu_seconds", {})
        cells = (
            f"{each:.2f} s ({each / ours:.2f}x)" + (f", {processor[name]:.2f} s" if processor else "")
            for name, each in block["seconds"].items()
        )
        rows.append([f"`{version}`, {block['images']:,} images", *cells])
    what = "an epoch of" + (": time, processor time" if processor else "")
    return table([what, *(NAMES[name] for name in block["seconds"])], *rows)


def networks(what: str, measured: dict) -> str:
    """Networks beside `fit`: times, peak memory and accuracy of both, below a line that says how they were trained."""
    rows = []
    for name, block in measured.items():
        ours, theirs = block["this_project"], block["keras_fit"]
        rows.append(
            [
                f"`{name}`",
                f"{ours['epoch_s']:.2f} s",
                f"{theirs['epoch_s']:.2f} s",
                f"{theirs['epoch_s'] / ours['epoch_s']:.2f}x",
                f"{ours['first_s']:.1f} / {theirs['first_s']:.1f} s",
                f"{ours['memory_mib']:.0f} / {theirs['memory_mib']:.0f} MiB",
                f"{ours['accuracy']:.4f} / {theirs['accuracy']:.4f}",
            ]
        )
    head = ["network", "an epoch", "Keras `fit`", "times as fast", "first epoch", "peak memory", "accuracy"]
    trained = f"{block['images']:,} training images, {block['epochs']} epochs"
    return f"{what}: {trained}; the accuracy is that on the validation split after the last.\n\n{table(head, *rows)}"


def span(measured: dict) -> str:
    """The worst, the median and the best ratio to `fit` among these networks."""
    ratios = [block["keras_fit"]["epoch_s"] / block["this_project"]["epoch_s"] for block in measured.values()]
    return f"worst {min(ratios):.2f}x, median {statistics.median(ratios):.2f}x, best {max(ratios):.2f}x"


def inference(measured: dict) -> str:
    """ResNet50: everybody's images a second and processor time, and our rate (computation alone; from disk to result) divided by it."""
    rates, processor = measured["images_per_s"], measured.get("cpu_s", {})
    ours, end_to_end = rates["this_project"], rates["folder_end_to_end"]
    rows = [
        [NAMES[name], f"{rate:.1f}"]
        + ([f"{1000 * processor[name]:.0f} ms"] if processor else [])
        + [f"{ours / rate:.2f}x", f"{end_to_end / rate:.2f}x"]
        for name, rate in rates.items()
    ]
    head = [
        "images/s",
        *(["processor time of an image"] if processor else []),
        "our computation alone",
        "ours, from disk to result",
    ]
    return table(["ResNet50, float32", *head], *rows)


def photos(measured: dict) -> str:
    """Photos of 12 megapixels: images a second and peak memory by the size of their files, and what bounds the rate."""
    sizes = [block for name, block in measured.items() if name != "computing_per_s"]
    rows = [
        [NAMES[name], *(f"{size['per_s'][name]:.1f}, {size['memory_mib'][name]:,.0f} MiB" for size in sizes)]
        for name in sizes[0]["per_s"]
    ]
    head = [f"{size['images']} of {size['bytes'] / 1e6:.1f} MB: images/s, peak memory" for size in sizes]
    bounds = [bound(size, measured["computing_per_s"]) for size in sizes]
    return table(["photos of 12 megapixels", *head], *rows) + "\n\n" + "\n".join(bounds)


def bound(size: dict, computing: float) -> str:
    """What the same cores could do if they decoded and computed in turn and did nothing else, and what is reached of it."""
    reached, decoding = size["per_s"]["photos_this_project"], size["per_s"]["photos_decoded"]
    possible = 1 / (1 / computing + 1 / decoding)
    return (
        f"- Files of {size['bytes'] / 1e6:.1f} MB: computing alone {computing:.1f}, decoding alone {decoding:.1f}, so both on the "
        f"same cores at most {possible:.1f} images/s; reached {reached:.1f} ({reached / possible:.2f}x of it, "
        f"{reached / computing:.2f}x of the computing rate)."
    )


def ray(measured: dict) -> str:
    """Ray against one process on the same cores, and the memory of its driver."""
    rows = [
        [
            name,
            f"{measured[engine]['start_s']:.1f} s",
            f"{measured[engine]['images_per_s']:.1f}",
            f"{measured[engine]['images_per_s'] / measured['local']['images_per_s']:.2f}x",
        ]
        for engine, name in (("local", "`engine: local`"), ("ray", "`engine: ray`, one worker"))
    ]
    head = ["the `infer` stage on JPEG files", "start and end", "images/s between", "of `local`"]
    return (
        f"{table(head, *rows)}\n\n"
        f"Ray's driver had {measured['driver_mib_after_a_tenth']:.0f} MiB of its own after a tenth of {measured['files']:,} files, "
        f"and {measured['driver_mib_at_the_end']:.0f} MiB at the end. (These files are not images, so nothing is computed for them.)"
    )


def pipeline(seconds: dict) -> str:
    """DVC's runs and what they are compared with; then each stage's seconds and processor time."""
    rows = [
        ["`dvc repro`, empty cache, files fetched", "the tutorial as one script", "repro", "tutorial"],
        ["`dvc repro`, nothing to do", "`dvc status`", "repro, nothing to do", "status"],
        ["`make repro`, nothing to do", "`dvc status`", "make repro, nothing to do", "status"],
    ]
    compared = table(
        ["work", "against", "seconds", "ratio"],
        *([a, b, f"{seconds[x]:.1f} / {seconds[y]:.1f}", f"{seconds[x] / seconds[y]:.2f}x"] for a, b, x, y in rows),
    )
    first = f"The first result from nothing: {seconds['set-up'] + seconds['repro']:.0f} s, of which `make setup` with empty caches {seconds['set-up']:.0f} s."
    stages = (
        [f"`{name}`", f"{taken['seconds']:.1f}", f"{taken['cpu_seconds']:.1f}"]
        for name, taken in seconds["stages"].items()
    )
    return "\n\n".join([compared, first, table(["stage", "seconds", "processor time, s"], *stages)])


def lower_bounds(results: dict) -> str:
    """The time that the matrix products alone would take, and how many times this we take."""
    peak, work = results["lower_bounds"]["matrix_gflop_per_s"], results["lower_bounds"]["gflop_per_image"]
    rows = []
    for version, block in results["training"].items():
        gflop = work[version] * block["images"]
        times = block["seconds"]["this_project"] / (gflop / peak)
        rows.append([f"an epoch of `{version}`", f"{gflop:,.0f}", f"{gflop / peak:.2f} s", f"{times:.1f}x"])
    most = peak / work["resnet50"]
    times = most / results["inference"]["images_per_s"]["this_project"]
    rows.append(["ResNet50, an image", f"{work['resnet50']:.1f}", f"{1 / most:.3f} s", f"{times:.1f}x"])
    return table(["work", "GFLOP", "lower bound", "this project takes"], *rows)


def growth(results: dict) -> str:
    """Time by the number of images."""
    rows = [
        [f"an epoch of `{version}`", *(f"{int(images):,}: {value:.2f} s" for images, value in seconds.items())]
        for version, seconds in results["training_growth"].items()
    ]
    memory = results["memory"].items()
    cells = (f"{int(count):,}: {block['seconds']:.1f} s, {block['mib']:.0f} MiB" for count, block in memory)
    return table(["number of images: time", "", "", ""], *rows, ["the `infer` stage, memory", *cells, ""])


# --------------------------------------------------------------------------------------- docs/gate.md and docs/usage.md


def gate(measured: dict) -> str:
    """How often the gate is shut, by version and loss."""
    rows = [
        [f"`{version}`", kind, *(f"{share:.0%}" for share in shares.values())]
        for version, block in measured.items()
        for kind, shares in block.items()
    ]
    losses = next(iter(next(iter(measured.values())).values()))
    columns = ("no loss" if lost == "0" else f"{int(lost) / 100:g} points" for lost in losses)
    return page(table(["version", "results over seeds", *columns], *rows))


def recipes(measured: dict, text: str) -> str:
    """recipes.yaml, and what its versions gave."""
    rows = []
    for name, trainings in measured.items():
        accuracies, seconds, processor = (
            [each[key] for each in trainings.values()] for key in ("accuracy", "seconds", "cpu_seconds")
        )
        over_seeds = f"{statistics.mean(accuracies):.2%} ± {statistics.stdev(accuracies):.2%} ({len(accuracies)})"
        times = duration(statistics.median(seconds)), duration(statistics.median(processor))
        rows.append([f"`{name}`", over_seeds, f"{min(accuracies):.2%}", *times])
    head = ["version", "test accuracy over seeds: mean ± std (n)", "lowest", "a training", "processor time"]
    return page(table(head, *rows), f"```yaml\n{text}```")


# ----------------------------------------------------------------------------------------------------- docs/scaling.md

CLUSTERS = {"one node": 1, "16 nodes": 16, "256 nodes": 256}
NODE_CORES = 32  # as fast as this machine's
NODE_BYTES_PER_S = 25e9 / 8  # of the network of each node
CACHE_BYTES = 10e12


def scaling(results: dict) -> str:
    """The tables of docs/scaling.md."""
    hashed = CACHE_BYTES / results["scaling"]["md5_bytes_per_s"]
    return page(
        f"Measured by `make bench` on {processor(results)}:",
        measured_costs(results),
        f"On nodes of {NODE_CORES} such cores, each with a network of {NODE_BYTES_PER_S * 8 / 1e9:.0f} Gbit/s, each part by itself takes "
        "(the longest is bold: the others can run at the same time):",
        projected(results),
        f"{CACHE_BYTES / 1e12:.0f} TB of cache: {duration(hashed)} to hash on one core, "
        f"{duration(hashed / NODE_CORES)} on {NODE_CORES}; {duration(CACHE_BYTES / NODE_BYTES_PER_S)} through one node's network.",
    )


def duration(seconds: float) -> str:
    """Seconds in the greatest unit of which there is at least one."""
    units = {"years": 365 * 86_400, "days": 86_400, "h": 3_600, "min": 60, "s": 1, "ms": 1e-3}
    unit = next((name for name, size in units.items() if seconds >= size), "µs")
    return f"{seconds / units.get(unit, 1e-6):,.3g} {unit}"


def computing(results: dict, who: str) -> float:
    """Core-seconds that ResNet50 takes for an image; all cores of this machine compute together."""
    return results["machine"]["cores"] / results["inference"]["images_per_s"][who]


def measured_costs(results: dict) -> str:
    """What one of each costs, as measured."""
    scaling, folder = results["scaling"], results["scaling"]["dvc_folder"]
    compute, native = (duration(computing(results, who)) for who in ("this_project", "native"))
    driver = duration(results["ray"]["driver_s_per_file"])
    rows = [
        [f"read, decode and resize a JPEG of {scaling['image_bytes'] / 1e3:.0f} KB", f"{duration(scaling['decode_s'])} of a core"],
        ["ResNet50 for an image", f"{compute} of a core, {native} with `instructions: native`"],
        ["Ray's driver, for an image", f"{driver}, and {scaling['prediction_bytes']:.0f} bytes of predictions"],
        ["DVC's check of a file in a folder", f"{duration(folder['first_s'])} for the first time, {duration(folder['unchanged_s'])} when unchanged"],
        ["MD5, DVC's hash", f"{scaling['md5_bytes_per_s'] / 1e6:.0f} MB/s on a core"],
        *([f"`dvc status` with {int(count):,} versions", duration(taken)] for count, taken in scaling["dvc_status_s"].items()),
        *([f"train `{version}` for an epoch", duration(block["seconds"]["this_project"])] for version, block in results["training"].items()),
    ]  # fmt: skip
    return table(["what", "costs"], *rows)


def projected(results: dict) -> str:
    """The time of each part alone for a million and a billion images on the clusters; the longest is bold."""
    scaling, rows = results["scaling"], []
    for exponent in (6, 9):
        for name, nodes in CLUSTERS.items():
            an_image = [
                computing(results, "this_project") / (nodes * NODE_CORES),
                scaling["decode_s"] / (nodes * NODE_CORES),
                scaling["image_bytes"] / (nodes * NODE_BYTES_PER_S),
                results["ray"]["driver_s_per_file"],
                scaling["dvc_folder"]["first_s"],
            ]
            times = [10**exponent * seconds for seconds in an_image]
            cells = [f"**{duration(time)}**" if time == max(times) else duration(time) for time in times]
            rows.append([f"10^{exponent} on {name}", *cells])
    return table(["images", "compute", "decode", "network", "driver", "DVC, the folder for the first time"], *rows)
