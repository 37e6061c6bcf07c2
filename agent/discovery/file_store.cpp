// SPDX-License-Identifier: Apache-2.0
#include "discovery/file_store.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <tuple>

#include "discovery/json_reader.hpp"

namespace mesh::discovery {
namespace {

constexpr auto kSettled = std::chrono::seconds(1);
constexpr std::size_t kMaxFolderFiles = 10'000;

bool is_folder(const std::string& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

/// "/etc/meshd/services/a.json:12" was read from "/etc/meshd/services/a.json".
std::string_view path_of_origin(const model::Service& service) {
  return std::string_view(service.origin).substr(0, service.origin.rfind(':'));
}

bool same_services(const std::vector<model::ServicePtr>& a, const std::vector<model::ServicePtr>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const auto& x, const auto& y) { return x->same_as(*y); });
}

/// Each of `fresh` that is equal to one of `old` becomes that very pointer. Both are sorted by frontend. True if some
/// service is new, gone or different.
bool keep_pointers(const std::vector<model::ServicePtr>& old, std::vector<model::ServicePtr>& fresh) {
  bool changed = old.size() != fresh.size();
  auto candidate = old.begin();
  for (model::ServicePtr& service : fresh) {
    while (candidate != old.end() && (*candidate)->frontend < service->frontend) ++candidate;
    if (candidate != old.end() && (*candidate == service || (*candidate)->same_as(*service))) {
      service = *candidate;
    } else {
      changed = true;
    }
  }
  return changed;
}

/// What is known by its bytes shall be the very objects in force. `services` is sorted by frontend.
void share_pointers(const std::vector<model::ServicePtr>& services, std::vector<KnownElement>& known) {
  for (KnownElement& element : known) {
    for (model::ServicePtr& service : element.services) {
      if (!service) continue;
      const auto found = std::lower_bound(services.begin(), services.end(), service,
                                          [](const auto& a, const auto& b) { return a->frontend < b->frontend; });
      MESH_ASSERT(found != services.end() && (*found)->frontend == service->frontend);
      service = *found;
    }
  }
}

}  // namespace

bool FileStore::before(const Entry& a, const Entry& b) {
  return std::tie(a.service->frontend, a.document->order, a.document->path) <
         std::tie(b.service->frontend, b.document->order, b.document->path);
}

FileStore::Signature FileStore::signature_of(const struct stat& status) {
  return {status.st_dev, status.st_ino, status.st_size, status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec,
          status.st_ctim.tv_sec * 1'000'000'000 + status.st_ctim.tv_nsec};
}

FileStore::Signature FileStore::signature_of(const std::string& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 ? signature_of(status) : Signature{};
}

/// Never waits: a pipe or device in place of the file is refused.
base::Result<std::string> FileStore::load(const std::string& path, Signature& signature) {
  const base::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd.valid()) return base::fail_errno(errno, "open " + path);
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return base::fail_errno(errno, "look at " + path);
  if (!S_ISREG(status.st_mode)) return base::fail(base::ErrorKind::kInvalid, "read " + path + ": not a regular file");
  signature = signature_of(status);
  std::string text;
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size > kMaxJsonBytes)
    return base::fail(base::ErrorKind::kExhausted,
                      "read " + path + ": larger than " + std::to_string(kMaxJsonBytes >> 20) + " MiB",
                      "split it into several files");
  text.resize(size + 1);
  std::size_t have = 0;
  while (true) {
    const ssize_t count = ::read(fd.get(), text.data() + have, text.size() - have);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return base::fail_errno(errno, "read " + path);
    have += static_cast<std::size_t>(count);
    if (count == 0 || have > kMaxJsonBytes) break;
    if (have == text.size()) text.resize(have * 2);
  }
  text.resize(have);
  return text;
}

FileStore::Document& FileStore::document(const std::string& path, Role role, std::size_t order) {
  const auto [found, added] = documents_.try_emplace(path);
  Document& document = found->second;
  if (added || document.role != role) {
    document = {.path = path, .role = role};
    paths_changed_ = true;
  }
  document.order = order;
  return document;
}

/// The document of a path, or all of a folder.
void FileStore::drop_documents(const std::string& path) {
  paths_changed_ |= std::erase_if(documents_, [&](const auto& entry) {
                      return entry.second.folder.empty() ? entry.first == path : entry.second.folder == path;
                    }) > 0;
}

void FileStore::configure(SourceInput input, Vanished vanished, base::WallTime now) {
  batching_ = true;
  if (input.defaults != input_.defaults) {
    for (auto& [path, known] : documents_) known.known.clear();
  }
  input_ = std::move(input);
  std::sort(input_.services.begin(), input_.services.end(),
            [](const auto& a, const auto& b) { return a->frontend < b->frontend; });
  inline_.was_good = true;
  inline_.synced_at = now;
  take_over(inline_, input_.services);

  std::map<std::string, std::pair<std::size_t, std::vector<model::ServicePtr>>> endpoint_files;
  std::map<std::string, std::size_t> roots;
  std::size_t order = 1;
  for (const FileReference& reference : input_.files) {
    if (reference.service) {
      auto& [first, settings] =
          endpoint_files.try_emplace(reference.path, order, std::vector<model::ServicePtr>{}).first->second;
      settings.push_back(reference.service);
    } else {
      roots.emplace(reference.path, order);
    }
    ++order;
  }
  entries_.clear();  // they name documents
  for (const auto& [path, old_order] : roots_) {
    if (!roots.contains(path)) drop_documents(path);
  }
  std::erase_if(root_errors_, [&](const auto& entry) { return !roots.contains(entry.first); });
  paths_changed_ |= std::erase_if(documents_, [&](const auto& entry) {
                      return entry.second.role == Role::kEndpoints && !endpoint_files.contains(entry.first);
                    }) > 0;
  paths_changed_ |= roots != roots_;
  roots_ = std::move(roots);

  for (auto& [path, file] : endpoint_files) {
    Document& target = document(path, Role::kEndpoints, file.first);
    apply_settings(target, std::move(file.second));
    read(target, now);
  }
  if (vanished == Vanished::kForget) {
    paths_changed_ |= std::erase_if(documents_, [](const auto& entry) {
                        return !entry.second.folder.empty() && signature_of(entry.first) == Signature{};
                      }) > 0;
  }
  for (const auto& [path, root_order] : roots_) read_root(path, root_order, now);
  // A file in a folder may have changed unnoticed, and defaults hold for all.
  for (auto& [path, known] : documents_) {
    if (!known.folder.empty()) read(known, now);
  }
  restored_.services.clear();
  restored_.services.shrink_to_fit();
  batching_ = false;
  rebuild_entries();
}

void FileStore::set_stale(base::Error reason) {
  input_.stale = std::move(reason);
  ++errors_;
}

/// New settings of the services that a file has endpoints for: what was good stays good under the new settings.
void FileStore::apply_settings(Document& document, std::vector<model::ServicePtr> settings) {
  if (same_services(document.settings, settings)) return;
  std::vector<model::ServicePtr> services;
  for (const model::ServicePtr& setting : settings) {
    model::Service service = *setting;
    for (const model::ServicePtr& old : document.services) {
      if (old->frontend.address.ip.is_v4() == service.frontend.address.ip.is_v4()) service.endpoints = old->endpoints;
    }
    services.push_back(std::make_shared<const model::Service>(std::move(service)));
  }
  document.settings = std::move(settings);
  std::sort(services.begin(), services.end(), [](const auto& a, const auto& b) { return a->frontend < b->frontend; });
  take_over(document, std::move(services));
}

/// A path in `files:`, which may be a file or a folder, and may turn from one into the other.
bool FileStore::read_root(const std::string& path, std::size_t order, base::WallTime now) {
  if (is_folder(path)) {
    if (const auto plain = documents_.find(path); plain != documents_.end() && !plain->second.was_good) {
      entries_.clear();
      documents_.erase(plain);
      rebuild_entries();
    }
    return list_folder(path, order, now);
  }
  const bool was_folder =
      std::any_of(documents_.begin(), documents_.end(), [&](const auto& entry) { return entry.second.folder == path; });
  if (was_folder || root_errors_.contains(path)) return list_folder(path, order, now);
  if (!documents_.contains(path)) {
    restore_folder(path, order);
    if (std::any_of(documents_.begin(), documents_.end(),
                    [&](const auto& entry) { return entry.second.folder == path; })) {
      return list_folder(path, order, now);
    }
  }
  return read(document(path, Role::kServices, order), now);
}

/// Reads files that are new in the folder. Known ones have their own watch; what is gone stays (I7).
bool FileStore::list_folder(const std::string& folder, std::size_t order, base::WallTime now) {
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(::opendir(folder.c_str()), &::closedir);
  if (!listing) {
    ++errors_;
    root_errors_[folder] =
        base::fail_errno(errno, "open the folder " + folder, "its services stay as they were").error();
    return true;
  }
  bool changed = root_errors_.erase(folder) > 0;
  std::set<std::string> names;
  while (const dirent* entry = ::readdir(listing.get())) {
    if (is_service_path(entry->d_name)) names.insert(entry->d_name);
  }
  if (names.size() > kMaxFolderFiles) {
    ++errors_;
    root_errors_[folder] = {base::ErrorKind::kExhausted,
                            "read the folder " + folder + ": " + std::to_string(names.size()) + " files, more than " +
                                std::to_string(kMaxFolderFiles),
                            "put more services into each file", 0};
    return true;
  }
  for (const std::string& name : names) {
    const std::string path = folder + "/" + name;
    if (documents_.contains(path)) continue;
    Document& added = document(path, Role::kServices, order);
    added.folder = folder;
    if (!batching_) read(added, now);
    changed = true;
  }
  return changed;
}

bool FileStore::read(Document& document, base::WallTime now) {
  Signature signature;
  const auto text = load(document.path, signature);
  base::Error error;
  if (text) {
    ParsedFile parsed = document.role == Role::kEndpoints
                            ? parse_endpoints(document.path, *text, document.settings)
                            : parse_services(document.path, *text, input_.defaults, document.known);
    document.signature = signature;
    if (parsed.good()) {
      const bool recovered = document.error.has_value() || !document.was_good;
      document.error.reset();
      document.was_good = true;
      document.synced_at = now;
      const bool changed = take_over(document, std::move(parsed.services));
      document.known = std::move(parsed.known);
      share_pointers(document.services, document.known);
      return changed || recovered;
    }
    error = parsed.findings.to_error();
  } else {
    document.signature = {};
    error = text.error();
    if (error.remedy.empty()) error.remedy = "its services stay as they were";
  }
  if (!document.was_good) restore(document);
  ++errors_;
  const bool changed = document.error != error;
  document.error = std::move(error);
  return changed;
}

bool FileStore::take_over(Document& document, std::vector<model::ServicePtr> services) {
  if (!keep_pointers(document.services, services)) return false;
  document.services = std::move(services);
  document.endpoints = 0;
  for (const model::ServicePtr& service : document.services) document.endpoints += service->endpoints.size();
  if (!batching_) update_entries(document);
  return true;
}

/// What the file said when the agent last ran.
void FileStore::restore(Document& document) {
  std::vector<model::ServicePtr> services;
  if (document.role == Role::kEndpoints) {
    for (const model::ServicePtr& setting : document.settings) {
      const auto old =
          std::find_if(restored_.services.begin(), restored_.services.end(),
                       [&](const model::ServicePtr& service) { return service->frontend == setting->frontend; });
      if (old == restored_.services.end()) continue;
      model::Service service = *setting;
      service.endpoints = (*old)->endpoints;
      services.push_back(std::make_shared<const model::Service>(std::move(service)));
    }
    if (services.size() != document.settings.size()) return;
  } else {
    for (const model::ServicePtr& service : restored_.services) {
      if (path_of_origin(*service) == document.path) services.push_back(service);
    }
    if (services.empty()) return;
  }
  std::sort(services.begin(), services.end(), [](const auto& a, const auto& b) { return a->frontend < b->frontend; });
  document.was_good = true;
  document.synced_at = restored_.saved_at;
  take_over(document, std::move(services));
}

/// A folder that is not there yet after a reboot: its files as they were.
void FileStore::restore_folder(const std::string& folder, std::size_t order) {
  std::set<std::string> paths;
  for (const model::ServicePtr& service : restored_.services) {
    const std::string_view path = path_of_origin(*service);
    if (path.size() > folder.size() + 1 && path.starts_with(folder) && path[folder.size()] == '/' &&
        path.rfind('/') == folder.size())
      paths.emplace(path);
  }
  for (const std::string& path : paths) {
    Document& restored = document(path, Role::kServices, order);
    restored.folder = folder;
    restore(restored);
  }
}

bool FileStore::refresh(const std::string& path, base::WallTime now) {
  bool changed = false;
  if (const auto known = documents_.find(path); known != documents_.end() && !roots_.contains(path))
    changed = read(known->second, now);
  if (const auto root = roots_.find(path); root != roots_.end())
    changed = read_root(path, root->second, now) || changed;
  return changed;
}

bool FileStore::rescan(Unsettled unsettled, base::WallTime now) {
  bool changed = false;
  for (const auto& [path, order] : roots_) {
    if (is_folder(path) || root_errors_.contains(path)) changed = list_folder(path, order, now) || changed;
  }
  for (auto& [path, known] : documents_) {
    const Signature signature = signature_of(path);
    const auto settled =
        std::chrono::duration_cast<std::chrono::nanoseconds>((now - kSettled).time_since_epoch()).count();
    if (signature == known.signature) continue;
    if (unsettled == Unsettled::kSkip && signature.changed_ns > settled) continue;
    changed = read(known, now) || changed;
  }
  return changed;
}

std::vector<std::string> FileStore::paths() const {
  std::vector<std::string> paths;
  for (const auto& [path, known] : documents_) paths.push_back(path);
  for (const auto& [path, order] : roots_) {
    if (!documents_.contains(path)) paths.push_back(path);
  }
  return paths;
}

bool FileStore::take_paths_changed() { return std::exchange(paths_changed_, false); }

/// One pass: what the document had goes, what it has now comes in.
void FileStore::update_entries(const Document& document) {
  std::vector<Entry> merged;
  merged.reserve(entries_.size() + document.services.size());
  auto next = document.services.begin();
  for (Entry& entry : entries_) {
    if (entry.document == &document) continue;
    while (next != document.services.end() && before({*next, &document}, entry)) merged.push_back({*next++, &document});
    merged.push_back(std::move(entry));
  }
  while (next != document.services.end()) merged.push_back({*next++, &document});
  entries_ = std::move(merged);
}

void FileStore::rebuild_entries() {
  entries_.clear();
  const auto add = [&](const Document& document) {
    for (const model::ServicePtr& service : document.services) entries_.push_back({service, &document});
  };
  add(inline_);
  for (const auto& [path, known] : documents_) add(known);
  std::sort(entries_.begin(), entries_.end(), before);
}

UpdatePtr FileStore::update(const std::optional<base::Error>& watch_error) {
  auto update = std::make_shared<model::Update>();
  update->generation = ++generation_;
  update->services.reserve(entries_.size());
  for (const Entry& entry : entries_) update->services.push_back(entry.service);

  model::SourceStatus& status = update->status;
  status.name = "file";
  status.updates = generation_;
  status.errors = errors_;
  status.services = entries_.size();
  status.endpoints = inline_.endpoints;
  bool any_good = inline_.was_good;
  std::size_t broken = 0;
  std::optional<base::WallTime> oldest_stale;
  base::WallTime newest = inline_.synced_at;
  const auto note = [&](const base::Error& error) {
    if (broken++ == 0) status.error = error;
  };
  if (input_.stale) {
    note(*input_.stale);
    oldest_stale = inline_.synced_at;
  }
  for (const auto& [path, error] : root_errors_) note(error);
  for (const auto& [path, known] : documents_) {
    status.endpoints += known.endpoints;
    newest = std::max(newest, known.synced_at);
    if (!known.error) continue;
    note(*known.error);
    if (known.was_good) oldest_stale = std::min(oldest_stale.value_or(known.synced_at), known.synced_at);
  }
  if (broken > 1) status.error->message += " (and " + std::to_string(broken - 1) + " more)";
  if (broken == 0 && watch_error) status.error = *watch_error;
  status.state = broken == 0 ? model::SourceState::kSynced
                 : any_good  ? model::SourceState::kStale
                             : model::SourceState::kFailed;
  status.synced_at = oldest_stale.value_or(newest);
  return update;
}

}  // namespace mesh::discovery
