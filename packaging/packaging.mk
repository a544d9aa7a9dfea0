# Installing and packaging: directories by their GNU names, what goes where, Debian packages.
DESTDIR ?=
INSTALL ?= install
# Runs a program that was built for another machine, such as qemu-aarch64.
RUN     ?=
PREFIX  ?= /usr/local
prefix            = $(PREFIX)
exec_prefix       = $(prefix)
bindir            = $(exec_prefix)/bin
libdir            = $(exec_prefix)/lib
includedir        = $(prefix)/include
datarootdir       = $(prefix)/share
mandir            = $(datarootdir)/man
docdir            = $(datarootdir)/doc/mixt
pkgconfigdir      = $(libdir)/pkgconfig
bashcompletiondir = $(datarootdir)/bash-completion/completions
systemdsystemunitdir = $(prefix)/lib/systemd/system

DEPS_PACKAGE := build-essential debhelper devscripts fakeroot lintian

# Every file that is installed: mode, source, target. `uninstall` reads the same rows.
INSTALLED = 755|$(BUILD)/mixt|$(bindir)/mixt \
    $(foreach file,$(HEADERS),644|$(file)|$(file:include/%=$(includedir)/%)) \
    644|$(LIBRARY)|$(libdir)/libmixt.a \
    644|$(SHARED)|$(libdir)/$(notdir $(SHARED)) \
    $(if $(MPI_LIBRARY),644|$(MPI_LIBRARY)|$(libdir)/mixt/libmixt-mpi.so) \
    644|$(BUILD)/share/mixt.pc|$(pkgconfigdir)/mixt.pc \
    644|$(BUILD)/share/mixt.1|$(mandir)/man1/mixt.1 \
    644|$(BUILD)/share/mixt.bash|$(bashcompletiondir)/mixt \
    644|$(BUILD)/share/mixt-serve@.service|$(systemdsystemunitdir)/mixt-serve@.service \
    $(foreach file,$(sort LICENSE README.md CHANGELOG.md $(wildcard docs/*.md docs/*/*.md docs/*.png examples/*.c)),644|$(file)|$(docdir)/$(file))
# ... and every link: what it says, its place.
INSTALLED_LINKS = $(notdir $(SHARED))|$(libdir)/$(SONAME) $(SONAME)|$(libdir)/libmixt.so

field = $(word $(1),$(subst |, ,$(2)))
define newline


endef

# One behind the other: `all` is a make of its own, and both would make the program at once.
install: all ## install below DESTDIR and PREFIX (/usr/local); libdir, mandir, docdir, ... as GNU has them
	@+$(MAKE) --no-print-directory install-files

install-files: $(BUILD)/share/mixt.1 $(BUILD)/share/mixt.bash $(BUILD)/share/mixt.pc $(BUILD)/share/mixt-serve@.service
	$(INSTALL) -d $(sort $(foreach row,$(INSTALLED),$(DESTDIR)$(dir $(call field,3,$(row)))))
	$(foreach row,$(INSTALLED),$(INSTALL) -m $(call field,1,$(row)) $(call field,2,$(row)) $(DESTDIR)$(call field,3,$(row))$(newline)	)
	$(foreach row,$(INSTALLED_LINKS),ln -sf $(call field,1,$(row)) $(DESTDIR)$(call field,2,$(row))$(newline)	)

uninstall: ## remove what install put there
	rm -f $(foreach row,$(INSTALLED),$(DESTDIR)$(call field,3,$(row))) $(DESTDIR)$(libdir)/mixt/libmixt-mpi.so $(foreach row,$(INSTALLED_LINKS),$(DESTDIR)$(call field,2,$(row)))
	-@rmdir $(DESTDIR)$(includedir)/mixt $(DESTDIR)$(libdir)/mixt $(DESTDIR)$(docdir)/docs/measures $(DESTDIR)$(docdir)/docs $(DESTDIR)$(docdir)/examples $(DESTDIR)$(docdir) 2>/dev/null || true

$(BUILD)/share/mixt.1: $(BUILD)/mixt
	@mkdir -p $(@D)
	@$(RUN) $(BUILD)/mixt help --man >$@.tmp && mv $@.tmp $@

$(BUILD)/share/mixt.bash: $(BUILD)/mixt
	@mkdir -p $(@D)
	@$(RUN) $(BUILD)/mixt help --completion-bash >$@.tmp && mv $@.tmp $@

# Made anew each time: the directories may be others than last time.
$(BUILD)/share/mixt-serve@.service: packaging/mixt-serve@.service always
	@mkdir -p $(@D)
	@sed 's|@BINDIR@|$(bindir)|' $< >$@

$(BUILD)/share/mixt.pc: packaging/mixt.pc.in include/mixt.h always
	@mkdir -p $(@D)
	@sed -e 's|@PREFIX@|$(prefix)|' -e 's|@EXEC_PREFIX@|$(patsubst $(prefix)%,$${prefix}%,$(exec_prefix))|' \
	    -e 's|@LIBDIR@|$(patsubst $(prefix)%,$${prefix}%,$(libdir))|' \
	    -e 's|@INCLUDEDIR@|$(patsubst $(prefix)%,$${prefix}%,$(includedir))|' \
	    -e 's|@VERSION@|$(VERSION)|' -e 's|@PACKAGES@|$(PACKAGES)|' $< >$@

## ---- tests of what is installed

# A minute's choice of the tests, for builds of packages.
SHORT_TESTS := sha256 crc32c half corpus template safetensors safetensors_write sample tokenizer tokenizer_pieces kernels \
               router rope quant store
SHORT_PROGRAMS := $(SHORT_TESTS:%=$(BUILD)/tests/test_%)

check-short: $(SHORT_PROGRAMS) ## a minute's choice of the tests, for builds of packages; installs nothing
	@mkdir -p $(BUILD)/short && ln -sfn ../tests $(BUILD)/short/tests
	@printf '%s\n' $(notdir $(SHORT_PROGRAMS)) >$(BUILD)/short/programs
	@tests/run.sh $(BUILD)/short

deps-cxx: deps
	$(call install_packages,g++,g++: mixt.h is a C++ header too,$(LOG)/deps-cxx.txt)

check-install: deps-cxx all ## install, use from C and C++ (shared and static), uninstall: nothing is left
	@CC="$(CC)" CXX="$(CXX)" tests/package/install.sh $(BUILD)

abi: ## writes tests/package/abi.txt, after members were added in place of reserved words
	@CC="$(CC)" tests/package/abi.sh record

check-reproducible: deps ## two builds in two folders are equal, byte by byte
	@CC="$(CC)" tests/package/reproducible.sh

## ---- Debian packages

deps-package: deps-test ## the packages that build packages (large, optional)
	$(call install_packages,$(DEPS_PACKAGE),debhelper and lintian: make deb; devscripts: hardening-check,$(LOG)/deps-package.txt)

deb: deps-package ## mixt, libmixt0 and libmixt-dev as Debian packages below build/deb, read by lintian
	@packaging/deb.sh

check-deb: deb ## ... unpacked and used from C and C++
	@CC="$(CC)" CXX="$(CXX)" tests/package/deb.sh

always:

.PHONY: deps-cxx install uninstall check-short check-install abi check-reproducible deps-package deb check-deb always
