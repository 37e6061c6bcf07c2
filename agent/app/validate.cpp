// SPDX-License-Identifier: Apache-2.0
#include "app/validate.hpp"

#include <algorithm>
#include <filesystem>
#include <map>
#include <unordered_map>

#include "base/fd.hpp"
#include "discovery/json_reader.hpp"
#include "discovery/service_file.hpp"
#include "model/health_view.hpp"

namespace mesh::app {
namespace {

namespace fs = std::filesystem;
using discovery::Findings;

/// Reads the watched files as the agent's source does, with the findings instead of a state to keep.
class WatchedFiles {
 public:
  WatchedFiles(const Config& config, api::ValidateView& view) : config_(config), view_(view) {}

  Findings look() {
    for (const model::ServicePtr& service : config_.services) {
      if (!origins_.contains(service->frontend)) take(*service);  // one that stands twice is an error that was said
    }
    std::map<std::string, std::vector<model::ServicePtr>> endpoint_files;
    for (const FileReference& reference : config_.files) {
      if (reference.service) endpoint_files[reference.path].push_back(reference.service);
    }
    for (const FileReference& reference : config_.files) {
      if (!reference.path.starts_with('/')) continue;  // an error that was said
      if (!reference.service) {
        look_at(reference.path);
      } else if (auto settings = endpoint_files.extract(reference.path)) {
        read(reference.path, settings.mapped());
      }
    }
    return std::move(findings_);
  }

 private:
  void look_at(const std::string& path) {
    std::error_code error;
    if (!fs::is_directory(path, error)) return read(path, {});
    std::vector<std::string> files;
    for (fs::directory_iterator entry(path, error), end; entry != end; entry.increment(error)) {
      if (discovery::is_service_path(entry->path().string())) files.push_back(entry->path());
    }
    if (error) return report(path, "open the folder: " + error.message(), "");
    std::ranges::sort(files);
    for (const std::string& file : files) read(file, {});
  }

  /// `settings`: of the services whose endpoints the file has; none: it has whole services.
  void read(const std::string& path, const std::vector<model::ServicePtr>& settings) {
    std::error_code error;
    const auto kind = fs::status(path, error).type();
    if (kind == fs::file_type::not_found) {  // load_config() warned of it
      for (const model::ServicePtr& service : settings) take(*service);
      return;
    }
    if (kind != fs::file_type::regular) return report(path, error ? error.message() : "not a regular file", "");
    const auto text = base::read_file(path, discovery::kMaxJsonBytes);
    if (!text) return report(path, text.error().message, text.error().remedy);
    ++view_.watched_files;
    auto parsed = settings.empty() ? discovery::parse_services(path, *text, config_.defaults)
                                   : discovery::parse_endpoints(path, *text, settings);
    for (const model::ServicePtr& service : parsed.services) take(*service);
    findings_.append(std::move(parsed.findings));
  }

  void take(const model::Service& service) {
    const auto [first, added] = origins_.emplace(service.frontend, service.origin);
    if (!added) {
      findings_.add_warning({service.origin, 0, 0, "",
                             service.frontend.to_string() + " is claimed by " + first->second + " already, which wins",
                             "give one of them another address or port"});
      return;
    }
    ++view_.services;
    view_.endpoints += service.endpoints.size();
  }

  void report(const std::string& path, std::string message, std::string suggestion) {
    findings_.add_error({path, 0, 0, "", std::move(message), std::move(suggestion)});
  }

  const Config& config_;
  api::ValidateView& view_;
  Findings findings_;
  std::unordered_map<model::Frontend, std::string, model::FrontendHash> origins_;
};

}  // namespace

std::vector<api::DiagnosticView> to_views(const std::vector<Diagnostic>& findings) {
  std::vector<api::DiagnosticView> views;
  for (const Diagnostic& finding : findings) {
    views.push_back({finding.file, finding.line, finding.column, finding.key, finding.message, finding.suggestion});
  }
  return views;
}

api::ValidateView validate_config(const std::string& path) {
  const LoadResult loaded = load_config(path);
  api::ValidateView view;
  view.path = path;
  const Findings watched = WatchedFiles(loaded.config, view).look();
  view.watched_errors = watched.error_count();
  view.ok = loaded.good() && view.watched_errors == 0;
  view.errors = to_views(loaded.errors);
  view.warnings = to_views(loaded.warnings);
  std::ranges::move(to_views(watched.errors), std::back_inserter(view.errors));
  std::ranges::move(to_views(watched.warnings), std::back_inserter(view.warnings));
  return view;
}

}  // namespace mesh::app
