/* train_job.h — what bp_train and bp_multi_run share: from options to an opened model, a dataset,
 * an adapter, a held output folder and a started entry in the history. Private to api/;
 * implemented in api_train.c. Owns what a job holds between its open and its close.
 */
#ifndef API_TRAIN_JOB_H
#define API_TRAIN_JOB_H

#include "api/handle.h"
#include "runs/history.h"
#include "train/output.h"
#include "train/train.h"

typedef struct TrainJob {
    bp_trainer *t;
    SessionKind kind;
    Arena arena; /* lifetime of the run */
    const char *output;
    char run_id[33];
    OutputFolder folder; /* held while options.output_held */
    const char *resume_from; /* checkpoint folder */
    DataFile *files;
    size_t n_files;
    Dataset dataset;
    Adapter *adapter;
    float *start_values; /* of an adapter that training goes on with; NULL: a new one */
    Backend backend;
    bool backend_open;
    bool in_history, has_eval;
    double eval_loss; /* of the held-out rows */
    TrainOptions options;
    TrainResult result;
} TrainJob;

/* Opens a job; the handle's error says why not. Close it either way. */
bool train_job_open(TrainJob *job, bp_trainer *t, SessionKind kind);
void train_job_close(TrainJob *job);
/* Everything that can be checked and loaded before a device is used, and a run id, new or resumed.
 * */
bool train_job_prepare(TrainJob *job);
/* Holds the output folder; other runs' files move aside. */
bool train_job_take_output(TrainJob *job);
/* Backend, output folder, options and history: after it, train_job_end must be called. */
bool train_job_begin(TrainJob *job);
/* Notes an adapter in the manifest; losses may be NAN. What cannot be noted is a warning. */
void train_job_register(const TrainJob *job, int64_t run_index, const char *path,
                        double training_loss, double validation_loss);
/* Writes how the run ended; the handle's error, if any, is the failure. */
void train_job_end(TrainJob *job, const HistoryEnd *end);
/* The adapter that the options ask for on this model. */
bool train_adapter_config(bp_trainer *t, const Model *model, AdapterConfig *config);
/* api_multi.c: the settings of a session, for the history. */
void multi_hyperparameters(const bp_trainer *t, Json *json);

#endif
