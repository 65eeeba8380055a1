"""MM-VSF (Ravirathinam et al., arXiv 2407.19660): forecasting from images and weather."""
