"""Folders in the layout of those that TFDS's builders prepare."""


def use_names_of_prepared_shards(folder, splits):
    """The sequential writer leaves out the number of shards, which TFDS's builders write."""
    for split in splits:
        shards = sorted(folder.glob(f"*-{split}.*"))
        for shard in shards:
            shard.rename(f"{shard}-of-{len(shards):05d}")
    edit_info(folder, lambda text: text.replace("{SHARD_INDEX}", "{SHARD_X_OF_Y}"))


def edit_info(folder, edit):
    """Change the text of dataset_info.json."""
    path = folder / "dataset_info.json"
    path.write_text(edit(path.read_text()))
