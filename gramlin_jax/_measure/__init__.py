"""``measure``: one streaming pass over the data, all metrics of all layers."""
