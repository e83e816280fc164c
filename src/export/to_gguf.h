/* to_gguf.h — the GGUF forms of a model: merged, and adapter alone. Private to export/.
 *
 * Both write aside and rename into place; a failure leaves nothing.
 */
#ifndef EXPORT_TO_GGUF_H
#define EXPORT_TO_GGUF_H

#include "export/export.h"

bool gguf_export_merged(const Model *model, const Adapter *adapter, const float *values,
                        const Tokenizer *tokenizer, const ExportOptions *options, const char *path,
                        Arena *scratch, Err *err);
bool gguf_export_adapter(const Model *model, const Adapter *adapter, const float *values,
                         const ExportOptions *options, const char *path, Arena *scratch, Err *err);

#endif
