"""The paper's figures: a package for each family, a room that they share, and what runs them."""
