"""The middle floor: from results to people. Pure decisions first, delivery last."""
