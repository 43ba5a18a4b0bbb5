"""What docs/losses.md says of each loss beyond its docstring: family, formula, and when it is worth a try."""

from __future__ import annotations

from dataclasses import dataclass

FAMILIES = ("pixel", "region", "Lovász", "mix", "structure", "boundary", "scribbles", "searched")


@dataclass(frozen=True)
class Guide:
    """One loss.

    Attributes:
        family: one of FAMILIES.
        formula: LaTeX, in the letters of the page: p probabilities, y labels, c classes, i pixels, z logits.
        when: one or two sentences.
    """

    family: str
    formula: str
    when: str


GUIDE: dict[str, Guide] = {
    "CrossEntropyLoss": Guide(
        "pixel", r"L = \frac{\sum_i w_{y_i}\,(-\log p_{i,y_i})}{\sum_i w_{y_i}}",
        "The baseline, and the part of a mix that gives every pixel a gradient. Class weights raise recall of rare classes and lower their "
        "precision.",
    ),
    "BinaryCrossEntropyLoss": Guide(
        "pixel", r"L = \frac1n\sum_i \big(-\lambda\, y_i \log p_i - (1-y_i)\log(1-p_i)\big)",
        "The baseline for one foreground class or for overlapping classes; `pos_weight` is the λ.",
    ),
    "FocalLoss": Guide(
        "pixel", r"L = \frac1n\sum_i \alpha_{y_i}\,(1-p_{i,y_i})^{\gamma}\,(-\log p_{i,y_i})",
        "Many easy pixels drown the hard ones. Lowers the pull of well-classified pixels; probabilities come out less confident.",
    ),
    "OhemCrossEntropyLoss": Guide(
        "pixel", r"L = \frac{1}{|K|}\sum_{i\in K} -\log p_{i,y_i},\quad K=\{i : p_{i,y_i} < \theta\}\ \text{or the hardest}\ k",
        "Street scenes with large easy regions. Noisy labels are hard pixels too: not for them.",
    ),
    "BootstrappedCrossEntropyLoss": Guide(
        "pixel", r"L = \frac1k \sum_{i\in \text{top-}k} -\log p_{i,y_i}",
        "As OHEM, with a fixed share of the pixels instead of a threshold.",
    ),
    "RecallLoss": Guide(
        "pixel", r"L = \frac1n\sum_i \frac{\max(\mathrm{FN}_{y_i},1)}{\max(N_{y_i},1)}\,(-\log p_{i,y_i})",
        "Mean accuracy (recall) of rare classes matters more than their precision; weights follow the batch instead of being tuned.",
    ),
    "DiceLoss": Guide(
        "region", r"L_c = 1 - \frac{2\sum_i p_{ic}y_{ic}}{\sum_i p_{ic} + \sum_i y_{ic}}",
        "Lesions, organs, one small foreground class; mixed with CE or BCE. By batch it sees rare classes that single images lack.",
    ),
    "JaccardLoss": Guide(
        "region", r"L_c = 1 - \frac{\sum_i p_{ic}y_{ic}}{\sum_i p_{ic} + \sum_i y_{ic} - \sum_i p_{ic}y_{ic}}",
        "The soft IoU. Close to Dice in practice; punishes bad classes somewhat harder.",
    ),
    "TverskyLoss": Guide(
        "region", r"L_c = 1 - \frac{TP_c}{TP_c + \alpha\,FP_c + \beta\,FN_c}",
        "False positives and false negatives cost differently: β > α favours recall.",
    ),
    "FocalTverskyLoss": Guide(
        "region", r"L_c = \Big(1 - \frac{TP_c}{TP_c + \alpha\,FP_c + \beta\,FN_c}\Big)^{\gamma}",
        "Tversky with more (γ < 1) or less (γ > 1) pull on classes that are already good.",
    ),
    "GeneralizedDiceLoss": Guide(
        "region", r"L = 1 - \frac{2\sum_c v_c \sum_i p_{ic}y_{ic}}{\sum_c v_c \sum_i (p_{ic}+y_{ic})},\quad v_c = \frac{1}{(\sum_i y_{ic})^2}",
        "Several classes of very different size in one fraction. The squared weights let the smallest class of a batch dominate: "
        "`weight_type` simple is gentler.",
    ),
    "LogCoshDiceLoss": Guide("region", r"L = \log\cosh(L_\text{Dice})", "Dice with a smoother end of training."),
    "MCCLoss": Guide(
        "region", r"L = 1 - \frac{TP\cdot TN - FP\cdot FN}{\sqrt{(TP+FP)(TP+FN)(TN+FP)(TN+FN)}}",
        "Binary tasks where true negatives should count too.",
    ),
    "ExponentialLogarithmicLoss": Guide(
        "region",
        r"L = w_D\,\tfrac1C\sum_c (-\ln \mathrm{Dice}_c)^{\gamma_D} + w_C\,\tfrac1n\sum_i w_{y_i}(-\ln p_{i,y_i})^{\gamma_C}",
        "Volumes with structures of extremely different size.",
    ),
    "LovaszSoftmaxLoss": Guide(
        "Lovász", r"L = \frac{1}{|C|}\sum_c \overline{\Delta J_c}\big(m(c)\big),\quad m_i(c) = |[y_i=c]-p_{ic}|",
        "mIoU is what is measured. Mixed with CE from the start (0.8/0.2), or as fine-tuning after CE; alone from scratch it learns slowly.",
    ),
    "LovaszHingeLoss": Guide(
        "Lovász", r"L = \overline{\Delta J}\big(\max(0,\,1-(2y_i-1)z_i)\big)",
        "IoU of one foreground class (roads, cracks). Its gradient is on the pixels inside the margin only: mix with BCE or start after it, "
        "and choose the coefficient on validation data.",
    ),
    "MixedLoss": Guide(
        "mix", r"L = \sum_k \text{coef}_k\,L_k", "Two views of the error at once, for the price of one pass. CE + a region or Lovász loss is the usual choice."
    ),
    "RMILoss": Guide(
        "structure", r"L = \lambda\,\mathrm{BCE} + (1-\lambda)\sum_c \tfrac{1}{2d}\log\det\big(S_Y - S_{YP}S_P^{-1}S_{YP}^\top\big)",
        "Neighbouring pixels should be right together. Strong published gains on VOC and CamVid; 6 to 12 times CE on a CPU.",
    ),
    "StructuralSimilarityLoss": Guide(
        "structure", r"L = \lambda\,\mathrm{CE} + \frac{1-\lambda}{M}\sum_{i,c} e_{ic}f_{ic}\,\mathrm{BCE}(y_{ic},p_{ic})",
        "Local contrast around edges. Written from the paper: no code of the authors to check against.",
    ),
    "SemanticEdgeAwareLoss": Guide(
        "structure", r"L = \sum_l a_l\,\tfrac1n\big\|D_l(p)-D_l(y)\big\|_1",
        "Boundaries through a small network that was trained on the masks themselves. Written from the paper: unverified.",
    ),
    "ActiveBoundaryLoss": Guide(
        "boundary", r"L = \frac{1}{|B|}\sum_{i\in B}\Lambda(M_i)\,\mathrm{CE}\big(\mathrm{KL}(p_j\|p_i)_j,\,d_i\big)",
        "Boundaries are nearly right and should snap to the true ones: on top of CE + Lovász, not without them.",
    ),
    "SignedDistanceBoundaryLoss": Guide(
        "boundary", r"L = \frac1n\sum_i \phi_{ic}\,p_{ic}",
        "Highly unbalanced binary tasks, beside a region loss whose share shrinks during training.",
    ),
    "HausdorffLoss": Guide(
        "boundary", r"L = \frac1n\sum_i (p_{ic}-y_{ic})^2\,(d_y^{\alpha}+d_p^{\alpha})",
        "Far-away false positives are what hurts (surgery planning, Hausdorff distance in the score). Dear.",
    ),
    "ClDiceLoss": Guide(
        "boundary", r"L = 1 - 2\,\frac{T_\text{prec}\,T_\text{sens}}{T_\text{prec}+T_\text{sens}}",
        "Thin connected structures: vessels, roads, cracks. Mixed half and half with Dice.",
    ),
    "DenseCRFLoss": Guide(
        "scribbles", r"L = 1 - \frac{\sum_k S_k^\top K S_k}{R^\top K R},\quad K_{ij}=e^{-\frac12(|x_i-x_j|^2/\sigma_{xy}^2+|I_i-I_j|^2/\sigma_{rgb}^2)}",
        "Scribbles or points instead of masks: beside partial cross-entropy it carries labels to pixels that look alike.",
    ),
    "DynamicFeatureLoss": Guide(
        "scribbles", r"L = 1 - \frac{\sum_k S_k^\top K' S_k}{R^\top K' R},\quad K' = K\ \text{with features}",
        "As DenseCRFLoss, when colour alone does not tell the classes apart.",
    ),
    "AutoSegLoss": Guide(
        "searched", r"L = 1 - \text{metric}\big(g_\theta(p), y\big),\quad g_\theta\ \text{monotone}",
        "A metric of one's own (boundary IoU, frequency-weighted IoU) as the loss; `evenseg search` fits the curves to the data.",
    ),
}  # fmt: skip
