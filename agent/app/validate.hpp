// SPDX-License-Identifier: Apache-2.0
// What is wrong with a configuration and the files that it watches, looked at once, without an agent: `meshd
// --check-config`, `meshctl config validate`.
#pragma once

#include <string>

#include "api/control.hpp"
#include "app/config.hpp"

namespace mesh::app {

/// All errors and warnings of `path`, its conf.d and the files that they name. A watched file that is broken is an
/// error; one that is not there is a warning, because the agent waits for it.
api::ValidateView validate_config(const std::string& path);

std::vector<api::DiagnosticView> to_views(const std::vector<Diagnostic>& findings);

}  // namespace mesh::app
