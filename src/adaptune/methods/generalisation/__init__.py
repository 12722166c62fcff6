"""Methods that learn from several labelled domains for those that they never see."""
