// SPDX-License-Identifier: Apache-2.0
#include "xds/library.hpp"

#include <dlfcn.h>

#include <filesystem>
#include <mutex>

namespace mesh::xds {
namespace {

base::Result<const Library*> load() {
  const std::string path = library_path();
  const auto refuse = [&](const std::string& why) {
    return base::fail(base::ErrorKind::kUnsupported, "load " + path + ": " + why,
                      "install the package meshd-xds of this version, or build with MESH_XDS=ON");
  };
  void* const handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* const why = ::dlerror();
    return refuse(why != nullptr ? why : "unknown");
  }
  const auto entry = reinterpret_cast<LibraryEntry>(::dlsym(handle, kLibraryEntry));
  const Library* const found = entry != nullptr ? entry(MESH_VERSION) : nullptr;
  if (found == nullptr) return refuse("is of another version than " MESH_VERSION);
  return found;
}

}  // namespace

std::string library_path() {
  std::error_code none;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", none);
  return (program.parent_path().parent_path() / "lib/meshd/plugins/xds.so").string();
}

base::Result<const Library*> library() {
  static std::mutex mutex;
  static const Library* loaded = nullptr;
  const std::lock_guard lock(mutex);
  if (loaded == nullptr) loaded = MESH_TRY(load());
  return loaded;
}

}  // namespace mesh::xds
