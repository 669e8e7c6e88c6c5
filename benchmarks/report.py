"""The measurements as Markdown: `performance(results)` is the section of README.md that `make readme` writes."""

NAMES = {
    "this_project": "this project",
    "keras_fit": "Keras `fit`",
    "keras_fit_xla": "Keras `fit`, XLA, 100 steps an execution",
    "pytorch": "PyTorch loop",
    "native": "this project, `instructions: native`",
    "folder_end_to_end": "this project, 512 JPEG files end to end",
    "keras_predict": "`model.predict`",
    "onnx_runtime": "ONNX Runtime",
    "openvino": "OpenVINO",
}


def table(head: list, *rows: list) -> list[str]:
    """Lines of a Markdown table."""
    first, *others = (f"| {' | '.join(map(str, row))} |" for row in (head, *rows))
    return [first, "|" + "---|" * len(head), *others]


def against(seconds: float, base: float) -> str:
    """Seconds and how many times the base they are."""
    return f"{seconds:.2f} s ({seconds / base:.2f}x)"


def training(results: dict) -> list[str]:
    """An epoch of each version: seconds of everybody, and in brackets how many times ours."""
    versions = results["training"]
    names = list(next(iter(versions.values()))["seconds"])
    head = ["an epoch of", *(NAMES[name] for name in names)]
    rows = []
    for version, block in versions.items():
        seconds = block["seconds"]
        ours = seconds["this_project"]
        others = [against(seconds[name], ours) for name in names[1:]]
        rows.append([f"`{version}`, {block['images']:,} pictures", f"**{ours:.2f} s**", *others])
    return table(head, *rows)


def inference(results: dict) -> list[str]:
    """ResNet50: pictures a second of everybody, and how many times that our computation and our whole way make."""
    rates = results["inference"]["pictures_per_s"]
    ours, end_to_end = rates["this_project"], rates["folder_end_to_end"]
    rows = (
        [NAMES[name], f"{rate:.1f}", f"{ours / rate:.2f}x", f"{end_to_end / rate:.2f}x"] for name, rate in rates.items()
    )
    return table(["ResNet50, float32", "pictures/s", "our computation alone", "we, end to end"], *rows)


def pipeline(results: dict) -> list[str]:
    """DVC's runs and what they are held against."""
    seconds = results["pipeline"]
    rows = [
        ["`dvc repro`, empty cache, files fetched", "the tutorial as one script", "repro", "tutorial"],
        ["`dvc repro`, nothing to do", "`dvc status`", "repro, nothing to do", "status"],
    ]
    return table(
        ["work", "against", "seconds", "ratio"],
        *([a, b, f"{seconds[x]:.1f} / {seconds[y]:.1f}", f"{seconds[x] / seconds[y]:.2f}x"] for a, b, x, y in rows),
    )


def floors(results: dict) -> list[str]:
    """How far from what the processor's matrix products alone would take."""
    peak, work = results["floors"]["matrix_gflop_per_s"], results["floors"]["gflop_per_picture"]
    rows = []
    for version, block in results["training"].items():
        gflop = work[version] * block["images"]
        seconds = block["seconds"]["this_project"]
        rows.append(
            [f"an epoch of `{version}`", f"{gflop:,.0f}", f"{gflop / peak:.2f} s", f"{seconds / (gflop / peak):.1f}x"]
        )
    floor = peak / work["resnet50"]
    ours = results["inference"]["pictures_per_s"]["this_project"]
    rows.append(["a ResNet50 picture", f"{work['resnet50']:.1f}", f"{1 / floor:.3f} s", f"{floor / ours:.1f}x"])
    return table(["work", "GFLOP", "at the rate of matrix products", "we take"], *rows)


def growth(results: dict) -> list[str]:
    """Time against the number of pictures."""
    rows = []
    for version, seconds in results["training_growth"].items():
        cells = (f"{int(images):,}: {value:.2f} s" for images, value in seconds.items())
        rows.append([f"an epoch of `{version}`", *cells])
    memory = results["memory"]
    cells = (f"{int(count):,}: {block['seconds']:.1f} s, {block['mib']:.0f} MiB" for count, block in memory.items())
    return table(["pictures: time", "", "", ""], *rows, ["the `infer` stage, memory", *cells, ""])


def performance(results: dict) -> str:
    """The whole section."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    peak = results["floors"]
    lines = [
        f"Measured by `make bench` in one run on {machine['cores']} cores of an {machine['processor']} with "
        f"{machine['memory_gib']} GiB (medians of {machine['rounds']} rounds in turn, the pipeline once; {versions}).",
        "",
        *training(results),
        "",
        *inference(results),
        "",
        *pipeline(results),
        "",
        f"Floors of this machine: {peak['matrix_gflop_per_s']:.0f} GFLOP/s in matrix products of float32, "
        f"{peak['copy_gb_per_s']:.0f} GB/s to and from memory.",
        "",
        *floors(results),
        "",
        *growth(results),
    ]
    return "\n".join(lines) + "\n"
