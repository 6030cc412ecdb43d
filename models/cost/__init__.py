"""What a network costs: parameters and multiply-accumulates, by formula and counted, beside the published figures."""
