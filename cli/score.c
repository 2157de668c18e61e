/* splam score */
#include "options.h"
#include "verbs.h"

static const char description[] =
    "Scores the pictures of A against those of B. Metrics:\n"
    "  fid  Frechet distance of Inception's features (Heusel et al. 2017); compare it between sets of one\n"
    "       size and convention alone\n"
    "  kid  kernel distance of them (Binkowski et al. 2018): unbiased, of random subsets\n"
    "  is   Inception score of A (Salimans et al. 2016), of ten parts\n"
    "  prdc precision, recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020) of A, drawn\n"
    "       pictures, by B, real ones\n"
    "  fid_infinity  fid of infinitely many pictures of A, by subsets of 15 sizes (Chong & Forsyth 2020)\n"
    "  fd, fd_infinity  the same of DINOv2's features (Stein et al. 2023), pictures squashed as dgm-eval does\n"
    "  cmmd kernel distance of CLIP's embeddings (Jayasumana et al. 2024); others' figures are of ViT-L/14 at 336\n"
    "  clip mean cosine of the pictures of A and their captions by CLIP, and 100 times it as torchmetrics has it\n"
    "  pickscore, hps  the same of PickScore's CLIP (Kirstain et al. 2023), times its scale, and of HPSv2's\n"
    "       (Wu et al. 2023), times 1\n"
    "  aesthetic  mean score of the pictures of A by LAION's head on CLIP's ViT-L/14\n"
    "Files of features may be of any network.\n"
    "Numbers are those that pytorch-fid, clean-fid, torch-fidelity or torchmetrics print by the same weights\n"
    "and convention: pictures are read as these do, transparency dropped and no orientation applied. Folders\n"
    "are read with those below, .png, .jpg, .jpeg and .webp; data sets are their files, in their order. A picture\n"
    "that cannot be read is left out and said; more than one in 100 are an error, after all others were read.";

static const char *const examples[] = {
    "splam score drawn real --inception pt_inception-2015-12-05-6726825d.pth",
    "splam score drawn real --metrics fid,kid,is --inception inception-2015-12-05.pt --json",
    "splam score drawn real --metrics fid,prdc --bootstrap 100 --inception inception-2015-12-05.pt",
    "splam score real --save-stats real.npz --inception inception-2015-12-05.pt",
    "splam score drawn coco:captions_val2014.json,val2014 --count 5000 --features kept.safetensors \\\n"
    "    --inception inception-2015-12-05.pt",
    "splam score drawn real.npz --convention clean --inception inception-2015-12-05.pt",
    "splam score drawn.npy ref_embs_coco_30k.npy --metrics cmmd",
    "splam score drawn_dinov2.npz real_dinov2.npz --metrics fd,fd_infinity,kid,prdc",
    "splam score drawn real --metrics cmmd,fd --clip ViT-L-14-336px.pt --dino dinov2_vitl14_pretrain.pth",
    "splam score drawn --metrics clip --captions captions.txt --clip CLIP-ViT-g-14 \\\n"
    "    --clip-prefix 'A photo depicts '",
    "splam score drawn --metrics aesthetic,clip --captions captions.txt --clip ViT-L-14.pt \\\n"
    "    --aesthetic sac+logos+ava1-l14-linearMSE.pth",
    "splam score drawn --metrics pickscore,hps --captions captions.txt --pickscore PickScore_v1 \\\n"
    "    --hps HPS_v2.1_compressed.pt",
    NULL,
};

int cli_score(int argc, char **argv)
{
    splam_score_options o = splam_score_defaults();
    const command c = {
        .verb = "score",
        .synopsis = "A [B] [options]",
        .description = description,
        .computes = true,
        .target = &o,
        .examples = examples,
    };
    options_result result = options_parse(&c, argc, argv, NULL);
    if (result != OPTIONS_RUN) return options_exit_code(result);
    if (cli_check_stdout() != CLI_OK) return CLI_FAILURE;
    splam_terminal terminal;
    splam_callbacks callbacks = splam_terminal_callbacks(&terminal);
    char *report;
    splam_status status = splam_score(&o, &callbacks, &report);
    return cli_print(status, report);
}
