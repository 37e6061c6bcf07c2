// SPDX-License-Identifier: Apache-2.0
#include "api/control.hpp"

#include "base/plural.hpp"

namespace mesh::api {

std::string to_text(const DiagnosticView& finding) {
  std::string text = finding.file;
  if (finding.line > 0) text += ":" + std::to_string(finding.line) + ":" + std::to_string(finding.column);
  if (!text.empty()) text += ": ";
  if (!finding.key.empty()) text += finding.key + ": ";
  text += finding.message;
  if (!finding.suggestion.empty()) text += "; " + finding.suggestion;
  return text;
}

std::vector<std::string> lines_of(const ValidateView& view) {
  using base::counted;
  std::vector<std::string> lines;
  for (const DiagnosticView& error : view.errors) lines.push_back(to_text(error));
  for (const DiagnosticView& warning : view.warnings) lines.push_back("warning: " + to_text(warning));
  std::string& last = lines.emplace_back(view.path + ": ");
  if (view.ok) {
    last += "valid, " + counted(view.services, "service") + ", " + counted(view.endpoints, "endpoint");
    if (view.watched_files > 0) last += ", " + counted(view.watched_files, "watched file");
  } else if (view.errors.size() > view.watched_errors) {
    last += counted(view.errors.size(), "error") + "; nothing would be applied";
  } else {
    last += counted(view.watched_errors, "error") + " in watched files, whose services would stay as they last were";
  }
  return lines;
}

}  // namespace mesh::api
