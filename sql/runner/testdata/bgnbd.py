"""Write what the package lifetimes says by BG/NBD, for TestScoresAreThoseOfLifetimes.

usage: bgnbd.py grid    a grid of made-up customers under two fits: testdata/bgnbd.csv is its output
       bgnbd.py cdnow   the 2357 customers of CDNOW that the package carries, under its own fit of them

Run with lifetimes==0.11.3, numpy==1.26.4, scipy==1.11.4, pandas==2.1.4.
"""

import random
import sys

import pandas as pd
from lifetimes import BetaGeoFitter
from lifetimes.datasets import load_cdnow_summary


def fit_of(r, alpha, a, b):
    fit = BetaGeoFitter()
    fit.params_ = pd.Series({"r": r, "alpha": alpha, "a": a, "b": b})
    return fit


def write(fit, ahead, customers):
    parameters = ",".join(repr(float(fit.params_[name])) for name in ("r", "alpha", "a", "b"))
    for x, t_x, age in customers:
        alive = float(fit.conditional_probability_alive(x, t_x, age)[0])
        expected = float(fit.conditional_expected_number_of_purchases_up_to_time(ahead, x, t_x, age))
        print(f"{parameters},{ahead},{x:.0f},{t_x:.2f},{age:.2f},{alive:.9f},{expected:.9f}")


def grid():
    choose = random.Random(1)
    for x in (0, 1, 2, 3, 10, 40, 150):
        for age in (0.5, 2.0, 10.0, 39.0, 120.0):
            if 7 * age < 2 * x:
                continue  # a purchase a day is all that there is
            t_x = 0 if x == 0 else round(choose.uniform(0.3, 1) * age, 2)
            if 7 * t_x > 1.2 * x or x == 0:
                yield x, t_x, age


print("r,alpha,a,b,ahead,x,t_x,T,p_alive,expected")
if sys.argv[1] == "grid":
    write(fit_of(0.243, 4.414, 0.793, 2.426), 39, grid())
    write(fit_of(0.6, 9.0, 1.8, 3.1), 13, grid())
else:
    data = load_cdnow_summary()
    fit = BetaGeoFitter()
    fit.fit(data["frequency"], data["recency"], data["T"])
    write(fit, 39, data[["frequency", "recency", "T"]].itertuples(index=False))
