"""What the families share: training, measures, results, statistics, claims, text and drawing."""
