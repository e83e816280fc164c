/* to_folder.h — the merged model as a Hugging Face folder. Private to export/.
 *
 * What is written is whole or absent.
 */
#ifndef EXPORT_TO_FOLDER_H
#define EXPORT_TO_FOLDER_H

#include "export/export.h"

/* Fills the folder options->output: weights (one file, or several and their index), config.json,
 * generation_config.json where the base has one, tokenizer. The folder appears by a rename, so one
 * that is there already is replaced whole; one that holds anything but a model is refused.
 * *bytes: of all weight files. */
bool folder_export_merged(const Model *model, const Adapter *adapter, const float *values,
                          const Tokenizer *tokenizer, const ExportOptions *options,
                          Arena *scratch, uint64_t *bytes, Err *err);

#endif
