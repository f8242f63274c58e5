"""What readers see: views, filters, cohorts, and catching up."""
