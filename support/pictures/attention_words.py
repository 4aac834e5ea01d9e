"""What an attention picture says: a finding in words, and the numbers behind it."""

from support.pictures.attention_numbers import Cam, Channels, Frame, Positions, Weights

Words = tuple[str, str]


def of_weights(blocks: list[Weights]) -> Words:
    reach, numbers = [], []
    for where, maps, spread, change, distance in blocks:
        reach.append(f"{spread.mean():.0f} of {maps.shape[2] * maps.shape[3]} positions ({where})")
        numbers.append(
            f"{where}: what the block adds is {change:.0%} as large as its input (Euclidean norm); what two positions "
            f"look at differs by {distance:.2f} (cosine distance)."
        )
    looks, own = ("head", ", above each head its own; its query is A") if maps.shape[1] > 1 else ("position", "")
    numbers.append(
        f"Means over the test images. Positions looked at: exp(entropy) of the weights{own}. A square marks the "
        "query's position. On the scale, 1 is the weight if all were equal."
    )
    return f"each {looks} looks at {', '.join(reach)} on average", " ".join(numbers)


def of_positions(blocks: list[Positions]) -> Words:
    close = max(block.spread for block in blocks) < 0.05
    finding = "position gates vary little" if close else "lets some positions through more than others"
    return finding, " ".join(
        f"{where}: gates between {low:.2f} and {high:.2f} (1 lets all through); within an image they "
        f"vary by {spread:.2g} (standard deviation, mean over the test images)."
        for where, low, high, spread, _ in blocks
    )


def of_channels(blocks: list[Channels], names: list[str]) -> Words:
    """`names` of the classes, those that are gated the same way side by side."""
    leading = max(blocks, key=lambda block: block.spread.mean())  # which tells classes apart most
    finding = "gates channels almost equally for all classes"
    if leading.spread.mean() >= 0.005:
        ends = [" and ".join(end) for end in (names[:2], names[-2:])] if len(names) > 3 else [names[0], names[-1]]
        finding = f"opens different channels for {ends[0]} than for {ends[1]} ({leading.where})"
    return finding, " ".join(
        f"{where}: gates between {low:.2f} and {high:.2f}; from class to class a channel's mean gate "
        f"varies by {spread.mean():.3f} (standard deviation, mean over {len(spread)} channels)."
        for where, low, high, _, spread in blocks
    )


def of_frame(frame: Frame) -> Words:
    finding = "changes next to nothing: the frame is the whole image"
    if frame.shift >= 1:
        zooms = "zooms in to" if frame.area < 0.9 else "keeps"
        varies = "varies" if frame.movement >= 1 else "hardly varies"
        finding = f"{zooms} {frame.area:.0%} of the image, at a position that {varies}"
    return finding, (
        f"On average over the {frame.images:,} test images, the frame covers {frame.area:.0%} of the image, and its "
        f"centre lies {frame.movement:.1f} pixels from its mean place. The corner that moves furthest is "
        f"{frame.shift:.1f} pixels from the image's corner. What lies outside the image is sampled as grey."
    )


def of_cam(cam: Cam) -> Words:
    height, width = cam.maps.shape[1:]
    return "Grad-CAM, since this network has no attention", (
        f"For comparison, the positions of the last feature map ({height}x{width}) that raise the true "
        f"class's score. {cam.half:.0f} of {height * width} positions hold half of the sum, on average over "
        "these images. The scale goes to each image's own maximum."
    )
