// SPDX-License-Identifier: Apache-2.0
#include "discovery/diagnostic.hpp"

#include <iterator>
#include <utility>

namespace mesh::discovery {

std::string Diagnostic::to_string() const {
  std::string text = file;
  if (line > 0) text += ":" + std::to_string(line);
  if (line > 0 && column > 0) text += ":" + std::to_string(column);
  if (!text.empty()) text += ": ";
  if (!key.empty()) text += key + ": ";
  text += message;
  if (!suggestion.empty()) text += "; " + suggestion;
  return text;
}

void Findings::add_error(Diagnostic diagnostic) {
  if (errors.size() >= kMax) {
    ++dropped;
  } else {
    errors.push_back(std::move(diagnostic));
  }
}

void Findings::add_warning(Diagnostic diagnostic) {
  if (warnings.size() < kMax) warnings.push_back(std::move(diagnostic));
}

void Findings::append(Findings other) {
  for (Diagnostic& error : other.errors) add_error(std::move(error));
  for (Diagnostic& warning : other.warnings) add_warning(std::move(warning));
  dropped += other.dropped;
}

base::Error Findings::to_error() const {
  MESH_ASSERT(!errors.empty());
  Diagnostic first = errors.front();
  const std::string remedy = std::exchange(first.suggestion, {});
  std::string message = first.to_string();
  if (error_count() > 1) message += " (and " + std::to_string(error_count() - 1) + " more)";
  return {base::ErrorKind::kInvalid, std::move(message), remedy, 0};
}

}  // namespace mesh::discovery
